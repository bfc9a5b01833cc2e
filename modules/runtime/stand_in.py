"""Runs on the managed host, in a monitor: containers that the host's own crun or runc makes, in our place.

What they cannot do by themselves is ready before they begin: a *worker* has a mount namespace with the
container's root, secrets and volumes, and its network namespace, and executes them there. So here too all
ends with the container. The worker's parent, the *keeper*, is a child of the monitor; it becomes the
container's parent and ends as that does: its exit code is the container's.
Source: OCI runtime-spec 1.2, runtime.md; crun(1), runc(8).
"""

from __future__ import annotations

import os
import resource
import stat
import time

from ..contract import plainjson
from . import cgroup, foreign, process, rootfs, secrets, volumes
from . import syscalls as sys
from .birth import kill
from .cgroup_files import write
from .cgroup_places import is_ours
from .config import Config, RuntimeFailure
from .container import Network, Plan
from .desk import Desk, find_init
from .handshake import Handshake, describe, revive
from .init import exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

_EXECUTED_SECONDS = 10.0
_FILES = "RLIMIT_NOFILE"
_INIT = "/dev/hostctl-init"
# The newest that a crun of any age takes; the agent's bundles have nothing of a later one.
_OCI_VERSION = "1.0.0"
_QUIET = sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC
_BORN, _ATTACHED, _SOCKETS, _CREATED, _START, _STARTED = (
    "born",
    "attached",
    "sockets",
    "created",
    "start",
    "started",
)


class Made:
    """A container whose first process waits for `start`, or runs; see `container.Container`.

    Attributes:
        child: the keeper: what the monitor waits for; `pidfd` is its, too.
        worker: the keeper's child that makes the container, and ends when that runs.
    """

    def __init__(self, desk: Desk, child: int, handshake: Handshake, made: cgroup.Cgroup) -> None:
        self.child = child
        self.pidfd = sys.pidfd_open(child)
        self.pid = self.worker = 0
        self.sockets: list[int] = []
        self.terminal = -1
        self._desk = desk
        self._handshake = handshake
        self._cgroup = made

    def start(self) -> None:
        """Have the program executed. Raises RuntimeFailure; `release` it then."""
        self._handshake.send(_START)
        self._handshake.expect(_STARTED)
        self._handshake.close()

    def release(self) -> None:
        """End it, and remove what was made. Its parent has to reap the keeper."""
        self._handshake.close()
        if self.worker:
            try:
                os.killpg(self.worker, 9)  # with what it is executing
            except ProcessLookupError:
                pass
        kill(self.pidfd)
        os.close(self.pidfd)
        for fd in self.sockets:
            os.close(fd)
        self._desk.clear()
        if self.terminal >= 0:
            os.close(self.terminal)
        cgroup.release(self._cgroup)


def create(
    runtime: str,
    config: Config,
    bundle: str,
    *,
    cgroup_path: str,
    stdio: Sequence[int],
    network: Network,
) -> Made:
    """Make the container, as a child's child of the caller's parent; its first process waits for `start`.

    Args: as of `container.create`.
    Raises:
        RuntimeFailure: whatever failed; nothing is left then.
    """
    desk = Desk(os.path.dirname(bundle))
    made = cgroup.Cgroup(cgroup_path.strip("/"), cgroup.detect())
    handshake = Handshake()
    container: Made | None = None
    try:
        # Before anything else: the keeper keeps all memory that is touched by now.
        pid = sys.clone(sys.CLONE_PARENT, -1)
        if pid == 0:
            _keep(Worker(runtime, config, bundle, desk, made, stdio, network, handshake))
        container = Made(desk, pid, handshake, made)
        handshake.parent()
        word, _ = handshake.receive()
        container.worker = int(word.partition(" ")[2])
        network.attach(container.worker)
        handshake.send(_ATTACHED)
        container.sockets = handshake.expect(_SOCKETS)
        word, masters = handshake.receive()
        container.pid = int(word.partition(" ")[2])
        container.terminal = masters[0] if masters else -1
        _complete(made, container.pid)
        return container
    except BaseException as error:
        reason = handshake.reason() if container and isinstance(error, OSError) else None
        if container is not None:
            container.release()
        else:
            handshake.close()
        if isinstance(error, OSError):
            raise reason or revive(describe(error)) from error
        raise


def _complete(made: cgroup.Cgroup, pid: int) -> None:
    """Have it in every hierarchy: what joins it later is put into all of them."""
    lacking = [folder for folder in made.folders() if not os.path.isdir(folder)]
    if lacking:
        cgroup.make(made)
    for folder in lacking:
        write(os.path.join(folder, "cgroup.procs"), str(pid))


def clear(container: str) -> str:
    """Remove what is left of a container that has ended; of one that was no stand-in's there is nothing.

    Args:
        container: its data folder.
    Returns:
        That its runtime hung, in words; else empty.
    """
    return Desk(container).clear()


def _keep(worker: Worker) -> NoReturn:
    """The keeper: has all done by a child, so that it stays small itself, and ends as the container does."""
    status = 1
    try:
        # What is started there, and left by who started it, becomes this process' child.
        sys.prctl(sys.PR_SET_CHILD_SUBREAPER, 1)
        told, tells = os.pipe()
        pid = sys.clone(0)
        if pid == 0:
            worker.run(tells)
        os.dup2(told, 3, inheritable=False)
        # Among them the monitor's: a lock, and its ends of pipes.
        sys.close_range(4)
        os.waitpid(pid, 0)
        pid = int(os.read(3, 20) or b"0")
        ended = ended_status = 0
        while pid and ended != pid:
            ended, ended_status = os.waitpid(-1, 0)
        if pid:
            status = exit_code(ended_status)
    finally:
        os._exit(status)


class Worker:
    """The keeper's child, in a mount and a network namespace that the container will have."""

    def __init__(
        self,
        runtime: str,
        config: Config,
        bundle: str,
        desk: Desk,
        made: cgroup.Cgroup,
        stdio: Sequence[int],
        network: Network,
        handshake: Handshake,
    ) -> None:
        self.runtime = runtime
        self.config = config
        self.bundle = bundle
        self.desk = desk
        self.cgroup = made
        self.stdio = stdio
        self.network = network
        self.handshake = handshake

    def run(self, tells: int) -> NoReturn:
        """Make the container, have it started when the parent says so, and tell the keeper its pid."""
        try:
            os.setsid()
            sys.prctl(sys.PR_SET_PDEATHSIG, 9)
            self.handshake.child()
            pid, master = self._create()
            self.handshake.send(f"{_CREATED} {pid}", [master] if master >= 0 else [])
            self.handshake.expect(_START)
            self._start(pid)
            os.write(tells, b"%d" % pid)
            self.handshake.send(_STARTED)
        except BaseException as error:
            self.handshake.send_error(error)
        finally:
            os._exit(0)

    def _create(self) -> tuple[int, int]:
        """The container's first process, and the master side of its terminal or -1."""
        os.umask(0o022)
        process.reset_signals()
        self.desk.clear()
        plan = Plan(self.config, self.bundle, self.desk.name)
        self.desk.make(self.runtime)
        if is_ours(self.cgroup.path):
            cgroup.release(self.cgroup)  # a leftover
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        own = "network" in plan.namespaces.new
        sys.unshare(sys.CLONE_NEWNS | (sys.CLONE_NEWNET if own else 0))
        self.handshake.send(f"{_BORN} {os.getpid()}")
        rootfs.enter(plan.rootfs)
        volumes.enter(plan.volumes, plan.rootfs.path)
        self.handshake.expect(_ATTACHED)
        self.network.configure()
        self.handshake.send(_SOCKETS, self.network.sockets())
        # runc takes the network namespace in which it is executed for the host's.
        theirs = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        sys.setns(home, sys.CLONE_NEWNET)
        path = f"/proc/{os.getpid()}/fd/{theirs}"
        lowered = _lowered(plan, self.config, self.desk, self.cgroup.path, path)
        name = os.path.join(self.desk.bundle, "config.json")
        with open(name, "w", encoding="utf-8") as stream:
            stream.write(plainjson.dumps(lowered))
        master = self.desk.create(self.stdio, terminal=plan.terminal is not None)
        return self.desk.pid(), master

    def _start(self, pid: int) -> None:
        runtime = _executable(pid)
        self.desk.run("start", self.desk.name)
        # `start` may return before the program is executed; one that has ended has been.
        deadline = time.monotonic() + _EXECUTED_SECONDS
        while runtime and _executable(pid) == runtime and time.monotonic() < deadline:
            time.sleep(0.0005)


def _executable(pid: int) -> tuple[int, int] | None:
    """Device and inode of what the process executes; None where it has ended."""
    try:
        found = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lowered(plan: Plan, config: Config, desk: Desk, cgroup_path: str, network: str) -> Config:
    """The configuration in the specification's words alone; what it has no word for is mounted here.

    Args:
        network: path of the network namespace that is the container's own.
    """
    sys.mount("tmpfs", desk.parts, "tmpfs", _QUIET, "mode=0700")
    entries = list(config.get("mounts") or ())
    for number, (entry, mount) in enumerate(zip(list(entries), plan.mounts)):
        tree = mount.tree
        if mount.foreign and tree < 0:
            tree = foreign.open_tree(mount.source, sys.OPEN_TREE_CLONE | sys.AT_RECURSIVE)
        if tree >= 0:
            entries[number] = {**entry, "source": _hang(tree, f"{desk.parts}/volume-{number}")}
    for number, file in enumerate(plan.secrets):
        path = f"{desk.parts}/file-{number}"
        secrets.write(path, file)
        options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"]
        entries.append(
            {"destination": file.target, "type": "bind", "source": path, "options": options}
        )
    process = {**config["process"], "rlimits": _limits(config)}
    if plan.init:
        entries.append(_init(desk))
        process["args"] = [_INIT, "--", *process["args"]]
    linux: dict[str, Any] = dict(config.get("linux") or {})
    linux["cgroupsPath"] = "/" + cgroup_path
    linux["namespaces"] = [
        {"type": "network", "path": network} if entry == {"type": "network"} else entry
        for entry in linux.get("namespaces") or ()
    ]
    annotations = config.get("annotations") or {}
    return {
        **config,
        "ociVersion": _OCI_VERSION,
        "root": {**(config.get("root") or {}), "path": plan.rootfs.path},
        "process": process,
        "mounts": entries,
        "linux": linux,
        "annotations": {
            name: value for name, value in annotations.items() if not name.startswith("hostctl.")
        },
    }


def _init(desk: Desk) -> dict[str, Any]:
    """The mount of the host's init: what is ours needs the host's Python, which is not in the container."""
    found = find_init()
    if not found:
        raise RuntimeFailure(
            f"cannot give {desk.name} an init: the host has none for other runtimes",
            hint="install the package catatonit, or leave `runtime` or `init` out",
            ref="no-init",
        )
    options = ["bind", "rprivate", "ro", "nosuid", "nodev"]
    return {"destination": _INIT, "type": "bind", "source": found, "options": options}


def _limits(config: Config) -> list[dict[str, Any]]:
    """With that of open files, which a runtime in Go raises for itself and does not take back."""
    found = list(config["process"].get("rlimits") or ())
    if not any(entry.get("type") == _FILES for entry in found):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        found.append({"type": _FILES, "soft": soft, "hard": hard})
    return found


def _hang(tree: int, place: str) -> str:
    """Give a detached mount a path in this mount namespace."""
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.mkdir(place, 0o700)
    else:
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    target = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        sys.move_mount(tree, target)
    finally:
        os.close(target)
    return place
