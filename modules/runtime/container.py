"""Runs on the managed host, in a monitor: creates a container from its OCI bundle. The order is here.

`prepare` of each facility runs in the parent and refuses what cannot be; `enter` runs in the child;
`release` undoes what the kernel does not undo by itself. The parent must be single-threaded.
"""

from __future__ import annotations

import fcntl
import os

from . import (
    cgroup,
    checks,
    devices,
    hooks,
    idmap,
    init,
    masks,
    mounts,
    namespaces,
    process,
    rootfs,
    secrets,
    storage,
    sysctls,
    terminal,
    uts,
    volumes,
)
from . import syscalls as sys
from .birth import Birth, kill
from .config import INIT, Config, annotation, refuse
from .handshake import Handshake, describe, revive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_ATTACHED, _SOCKETS, _HOOKED = "attached", "sockets", "hooked"
_READY, _START = "ready", "start"


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
        pid, pidfd: its first process, seen from the host; `child` is what its parent has to reap: the same.
        sockets: what `Network.sockets` made.
        terminal: the master side of its terminal, which is the caller's to close; -1 without one.
    """

    def __init__(
        self, pid: int, made: cgroup.Cgroup | None, handshake: Handshake, told: hooks.Hooks | None
    ) -> None:
        self.pid = self.child = pid
        self.pidfd = sys.pidfd_open(pid)
        self.cgroup = made
        self.sockets: list[int] = []
        self.terminal = -1
        self._handshake = handshake
        self._hooks = told

    def start(self) -> None:
        """Execute the program, then the poststart hooks.

        Raises:
            RuntimeFailure: with code 126 or 127 if the program cannot be executed. `release` it then.
        """
        self._handshake.send(_START)
        self._handshake.expect_end()
        self._handshake.close()
        if self._hooks is not None:
            self._hooks.run("poststart")

    def leave(self) -> None:
        """Let go of it: it lives on, and waits at its socket where it was created with one."""
        self._handshake.close()
        os.close(self.pidfd)
        self.pidfd = -1

    def release(self) -> None:
        """End it and remove its cgroup. Its parent has to reap it."""
        self._handshake.close()
        kill(self.pidfd)
        for fd in self.sockets:
            os.close(fd)
        self.sockets = []
        if self.cgroup is not None:
            cgroup.release(self.cgroup)
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self._hooks is not None:
            self._hooks.run_poststop()


def start(path: str) -> None:
    """Execute the program of a container that was created, by whomever, to wait at this socket.

    Raises RuntimeFailure with code 126 or 127 if that fails, and OSError if nobody waits there.
    """
    handshake = Handshake.connect(path)
    try:
        handshake.send(_START)
        handshake.expect_end()
    finally:
        handshake.close()


class Plan:
    """Everything that config.json says, parsed: no error in it is found after something was made."""

    def __init__(self, config: Config, bundle: str, name: str = "") -> None:
        checks.check(config)
        refuse(config)
        linux = config.get("linux") or {}
        self.resources = linux.get("resources") or {}
        self.bundle = bundle
        self.hooks = hooks.prepare(config, name, bundle)
        self.terminal = terminal.prepare(config)
        self.namespaces = namespaces.prepare(config)
        self.mapping = idmap.prepare(
            config,
            new="user" in self.namespaces.new,
            joined="user" in self.namespaces.joined,
        )
        self.uts = uts.prepare(config, self.namespaces)
        self.rootfs = rootfs.prepare(config, bundle)
        self.volumes = volumes.prepare(config)
        self.mounts = mounts.prepare(config, bundle)
        mounts.check(self.mounts, self.namespaces)
        if linux.get("mountLabel"):
            from . import labels

            labels.label_mounts(config, self.mounts)
        self.secrets = secrets.prepare(config)
        self.devices = devices.prepare(config, self.mounts)
        self.sysctls = sysctls.prepare(config, self.namespaces)
        self.masks = masks.prepare(config)
        self.process = process.prepare(config, bundle)
        self.init = annotation(config, INIT) == "true"
        # Last: it holds descriptors, which `create` gives back.
        self.storage = storage.prepare(config, self.mounts, self.volumes)


def create(
    config: Config,
    bundle: str,
    *,
    cgroup_path: str,
    stdio: Sequence[int],
    network: Network | None = None,
    sibling: bool = False,
    waiting: int = -1,
    preserve: Sequence[int] = (),
    name: str = "",
    pivot: bool = True,
    holder: int = 0,
) -> Container:
    """Make the container; its first process then waits for `start`.

    Args:
        bundle: the folder of config.json: relative paths in it start there.
        cgroup_path: relative to each hierarchy's root; empty: the container stays in the caller's.
        stdio: three descriptors; a container with a terminal does not get them.
        sibling: make it a child of the caller's parent, which reaps it also where this fails.
        waiting: a listening socket; the container then outlives the caller, and `start` finds it there.
        preserve: further descriptors of the caller that the program gets, under the same numbers.
        name: its id, as hooks are told it; the last part of the cgroup's path where it is left out.
        holder: a process that may be in the cgroup already.
        pivot: False where the host's root is a ramdisk, which cannot be left with pivot_root.
    Raises:
        RuntimeFailure: whatever failed, on either side; nothing is left then.
    """
    plan = Plan(config, bundle, name or os.path.basename(cgroup_path))
    if not pivot:
        plan.rootfs.switch = rootfs.MOVE
    links = network or Network()
    birth = Birth(plan, sibling)
    handshake = Handshake(waiting)
    try:
        if cgroup_path:
            birth.cgroup = cgroup.prepare(cgroup_path, plan.resources, holder=holder)
        birth.prepare(stdio)
        if birth.clone(handshake):
            _first_process(plan, stdio, links, birth, handshake, preserve)
        container = Container(birth.pid, birth.cgroup, handshake, plan.hooks)
        links.attach(birth.pid)
        handshake.send(_ATTACHED)
        container.sockets = handshake.expect(_SOCKETS)
        if plan.hooks is not None:
            plan.hooks.pid = birth.pid
            birth.hooked = True
            plan.hooks.run("prestart", plan.bundle)
            plan.hooks.run("createRuntime", plan.bundle)
            handshake.send(_HOOKED)
        masters = handshake.expect(_READY)
        if masters:
            container.terminal = masters[0]
        return container
    except BaseException as error:
        # A child that has failed makes this side fail too, with less to say.
        reason = handshake.reason() if birth.child and isinstance(error, OSError) else None
        handshake.close()
        birth.undo()
        if isinstance(error, OSError):
            raise reason or revive(describe(error)) from error
        raise
    finally:
        birth.close()
        storage.release(plan.storage)
        namespaces.release(plan.namespaces)


def _first_process(
    plan: Plan,
    stdio: Sequence[int],
    links: Network,
    birth: Birth,
    handshake: Handshake,
    preserve: Sequence[int],
) -> NoReturn:
    """The child. Never returns: executes the program, or says what failed and exits."""
    try:
        _enter(plan, stdio, links, birth, handshake, preserve)
        process.execute(plan.process)
    except BaseException as error:
        handshake.send_error(error)
    finally:
        os._exit(1)


def _enter(
    plan: Plan,
    stdio: Sequence[int],
    links: Network,
    birth: Birth,
    handshake: Handshake,
    preserve: Sequence[int],
) -> None:
    """The order of a container, and why it is this one."""
    os.setsid()
    os.umask(0)
    if plan.terminal is None:
        _take_stdio(stdio)
    # Nobody who shares the pid namespace may look into a process that still knows the host.
    sys.prctl(sys.PR_SET_DUMPABLE, 0)
    if plan.hooks is not None:
        # The host's /proc, which knows this process by its number there, is visible until pivot_root.
        plan.hooks.pid = int(os.readlink("/proc/self"))
    if plan.init and plan.process.labels is not None:
        plan.process.labels.enter_staying()
    made = birth.cgroup
    if not birth.ahead:
        # So is what these write to.
        process.enter_host(plan.process)
        namespaces.enter(plan.namespaces)
    uts.enter(plan.uts)
    rootfs.enter(plan.rootfs)
    # A new volume takes the image's content before it is mounted over it.
    volumes.enter(plan.volumes, plan.rootfs.path)
    # The cgroup namespace takes the cgroup of this moment as its root, and cgroup mounts show it.
    if made is not None and not birth.ahead:
        made.enter()
    namespaces.enter_cgroup(plan.namespaces)
    later = mounts.enter(plan.mounts, plan.rootfs.path, made, plan.namespaces, birth.users)
    # Nodes and links go upon the mounts (a tmpfs at /dev), below a root that is still writable.
    devices.enter(plan.devices, plan.rootfs.path)
    # Secrets and configs may lie in any of the mounts.
    secrets.enter(plan.secrets, plan.rootfs.path)
    if plan.terminal is not None:
        terminal.enter_mounts(plan.rootfs.path)
    mounts.enter_readonly(later)
    # Interfaces come from the parent, which worked meanwhile; parameters may be per interface.
    handshake.expect(_ATTACHED)
    links.configure()
    handshake.send(_SOCKETS, links.sockets())
    if plan.hooks is not None:
        # All is there, and the host's tree too: the parent's hooks first, then those of this side.
        handshake.expect(_HOOKED)
        plan.hooks.run("createContainer")
    rootfs.enter_pivot(plan.rootfs)
    # Parameters are written before /proc/sys becomes read-only.
    sysctls.enter(plan.sysctls)
    # The terminal is one of the container's own devpts.
    masters = [] if plan.terminal is None else [terminal.enter(plan.terminal, plan.process.uid)]
    # Masks and read-only paths come last: nothing may be mounted over them.
    masks.enter(plan.masks)
    devices.enter_stdio()
    # The working directory may have to be made, so the root becomes read-only after that.
    process.enter_cwd(plan.process, *handshake.filenos(), *preserve, *masters, make=True)
    rootfs.enter_readonly(plan.rootfs)
    if handshake.waits:
        # Who starts it may not be who wants to know; podman reads the reason of `create` alone.
        process.check(plan.process)
    handshake.send(_READY, masters)
    for fd in masters:
        os.close(fd)
    handshake.wait_for(_START)
    # Rights are given up last: everything above needs them.
    process.enter(plan.process)
    if plan.hooks is not None:
        plan.hooks.run("startContainer")
    if plan.init:
        init.enter(handshake.fileno(), plan.process.labels)


def _take_stdio(stdio: Sequence[int]) -> None:
    # Via copies above 2, so that no descriptor is overwritten before it was used.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=True)
