"""Runs on the managed host, in a monitor: creates a container from its OCI bundle. The order is here.

`prepare` of each facility runs in the parent and refuses what cannot be; `enter` runs in the child;
`release` undoes what the kernel does not undo by itself. The parent must be single-threaded.
"""

from __future__ import annotations

import fcntl
import os
import select

from . import (
    cgroup,
    devices,
    init,
    masks,
    mounts,
    namespaces,
    process,
    rootfs,
    sysctls,
    uts,
    volumes,
)
from . import syscalls as sys
from .config import INIT, Config, annotation, refuse
from .handshake import Handshake, describe, revive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_READY, _ATTACHED, _SOCKETS, _START = "ready", "attached", "sockets", "start"


class Network:
    """How a container gets its interfaces; this one gets none of its own. See modules/net."""

    def attach(self, pid: int) -> None:
        """Parent: put interfaces into the network namespace of the process."""

    def configure(self) -> None:
        """Child, in its network namespace: addresses and routes."""

    def sockets(self) -> list[int]:
        """Child, after `configure`: sockets that its parent is to hold."""
        return []


class Container:
    """A container whose first process waits for `start`, or runs.

    Attributes:
        pid, pidfd: its first process, seen from the host.
        sockets: what `Network.sockets` made.
    """

    def __init__(self, pid: int, made: cgroup.Cgroup, handshake: Handshake) -> None:
        self.pid = pid
        self.pidfd = sys.pidfd_open(pid)
        self.cgroup = made
        self.sockets: list[int] = []
        self._handshake = handshake

    def start(self) -> None:
        """Execute the program. Raises RuntimeFailure with code 126 or 127 if that fails."""
        self._handshake.send(_START)
        self._handshake.expect_end()
        self._handshake.close()

    def release(self) -> None:
        """End it and remove its cgroup. Its parent has to reap it."""
        self._handshake.close()
        _kill(self.pidfd)
        for fd in self.sockets:
            os.close(fd)
        self.sockets = []
        cgroup.release(self.cgroup)
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Plan:
    """Everything that config.json says, parsed: no error in it is found after something was made."""

    def __init__(self, config: Config, bundle: str) -> None:
        refuse(config)
        self.resources = (config.get("linux") or {}).get("resources") or {}
        self.namespaces = namespaces.prepare(config)
        self.uts = uts.prepare(config, self.namespaces)
        self.rootfs = rootfs.prepare(config, bundle)
        self.volumes = volumes.prepare(config)
        self.mounts = mounts.prepare(config, bundle)
        self.devices = devices.prepare(config, self.mounts)
        self.sysctls = sysctls.prepare(config, self.namespaces)
        self.masks = masks.prepare(config)
        self.process = process.prepare(config)
        self.init = annotation(config, INIT) == "true"


def create(
    config: Config,
    bundle: str,
    *,
    cgroup_path: str,
    stdio: Sequence[int],
    network: Network | None = None,
    sibling: bool = False,
) -> Container:
    """Make the container; its first process then waits for `start`.

    Args:
        bundle: the folder of config.json: relative paths in it start there.
        cgroup_path: relative to each hierarchy's root.
        stdio: three descriptors.
        sibling: make it a child of the caller's parent, which reaps it also where this fails.
    Raises:
        RuntimeFailure: whatever failed, on either side; nothing is left then.
    """
    plan = Plan(config, bundle)
    links = network or Network()
    made = cgroup.prepare(cgroup_path, plan.resources)
    handshake = Handshake()
    pid = 0
    try:
        # One clone into all namespaces at once: half the time of unshare and a second fork.
        home = made.open()
        try:
            pid = namespaces.clone(plan.namespaces, sibling=sibling, cgroup=home)
        finally:
            if home >= 0:
                os.close(home)
        if pid == 0:
            _first_process(plan, stdio, links, made, handshake)
        handshake.parent()
        container = Container(pid, made, handshake)
        links.attach(pid)
        handshake.send(_ATTACHED)
        container.sockets = handshake.expect(_SOCKETS)
        handshake.expect(_READY)
        return container
    except BaseException as error:
        # A child that has failed makes this side fail too, with less to say.
        reason = handshake.reason() if pid and isinstance(error, OSError) else None
        handshake.close()
        if pid:
            pidfd = sys.pidfd_open(pid)
            _kill(pidfd)
            os.close(pidfd)
            if not sibling:
                os.waitpid(pid, 0)
        cgroup.release(made)
        if isinstance(error, OSError):
            raise reason or revive(describe(error)) from error
        raise
    finally:
        namespaces.release(plan.namespaces)


def _kill(pidfd: int) -> None:
    """End the first process, and with it all of its pid namespace; returns when it has ended."""
    try:
        sys.pidfd_send_signal(pidfd, 9)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(5000)


def _first_process(
    plan: Plan, stdio: Sequence[int], links: Network, made: cgroup.Cgroup, handshake: Handshake
) -> NoReturn:
    """The child. Never returns: executes the program, or says what failed and exits."""
    try:
        handshake.child()
        _enter(plan, stdio, links, made, handshake)
        process.execute(plan.process)
    except BaseException as error:
        handshake.send_error(error)
    finally:
        os._exit(1)


def _enter(
    plan: Plan, stdio: Sequence[int], links: Network, made: cgroup.Cgroup, handshake: Handshake
) -> None:
    """The order of a container, and why it is this one."""
    os.setsid()
    os.umask(0)
    _take_stdio(stdio)
    # Nobody who shares the pid namespace may look into a process that still knows the host.
    sys.prctl(sys.PR_SET_DUMPABLE, 0)
    # The host's /proc is visible only until pivot_root.
    process.enter_host(plan.process)
    namespaces.enter(plan.namespaces)
    uts.enter(plan.uts)
    rootfs.enter(plan.rootfs)
    # A new volume takes the image's content before it is mounted over it.
    volumes.enter(plan.volumes, plan.rootfs.path)
    # The cgroup namespace takes the cgroup of this moment as its root, and cgroup mounts show it.
    made.enter()
    namespaces.enter_cgroup(plan.namespaces)
    mounts.enter(plan.mounts, plan.rootfs.path, made, plan.namespaces)
    # Nodes and links go upon the mounts (a tmpfs at /dev), below a root that is still writable.
    devices.enter(plan.devices, plan.rootfs.path)
    # Interfaces come from the parent, which worked meanwhile; parameters may be per interface.
    handshake.expect(_ATTACHED)
    links.configure()
    handshake.send(_SOCKETS, links.sockets())
    rootfs.enter_pivot(plan.rootfs)
    # Parameters are written before /proc/sys becomes read-only.
    sysctls.enter(plan.sysctls)
    # Masks and read-only paths come last: nothing may be mounted over them.
    masks.enter(plan.masks)
    devices.enter_stdio()
    # The working directory may have to be made, so the root becomes read-only after that.
    process.enter_cwd(plan.process, handshake.fileno())
    rootfs.enter_readonly(plan.rootfs)
    handshake.send(_READY)
    handshake.expect(_START)
    # Rights are given up last: everything above needs them.
    process.enter(plan.process)
    if plan.init:
        init.enter(handshake.fileno())


def _take_stdio(stdio: Sequence[int]) -> None:
    # Via copies above 2, so that no descriptor is overwritten before it was used.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=True)
