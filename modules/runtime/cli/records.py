"""Runs on the managed host: what is on disk about a container of the OCI command line, in ROOT/ID/.

`state.json` and `config.json` (a copy: what the bundle says later counts for nothing) are written before
anything is made, so that whatever is killed, `delete` knows what there may be; `start` is the socket at
which the first process waits.
"""

from __future__ import annotations

import fcntl
import os
import time

from ...contract import plainjson
from ...monitor.state import alive, boot_id, start_time
from .. import cgroup
from ..config import Config, RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..hooks import Hooks

CREATING, CREATED, RUNNING, PAUSED, STOPPED = (
    "creating",
    "created",
    "running",
    "paused",
    "stopped",
)
VERSION = "1.2.0"
"""Of the runtime specification."""
_STATE, _CONFIG, _SOCKET = "state.json", "config.json", "start"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Record:
    """Attributes:
    bundle: the folder of config.json; relative paths in it start there.
    cgroup_path: relative to each hierarchy's root; empty: it stays in the caller's.
    unit, slice: of the scope that the cgroup is, where systemd has made it.
    pid, started: the first process and its start time (field 22 of stat); 0 before there is one.
    maker, maker_started: the process that makes it.
    waiting: inode of the socket at which the first process waits, while it does.
    created: seconds since 1970.
    """

    def __init__(self, root: str, identifier: str) -> None:
        self.folder = os.path.join(root, identifier)
        self.root = root
        self.id = identifier
        self.bundle = self.rootfs = self.cgroup_path = self.boot = ""
        self.unit = self.slice = ""
        self.pid = self.started = self.maker = self.maker_started = self.waiting = 0
        self.created = 0.0
        self.annotations: dict[str, str] = {}
        self._config: Config | None = None

    def cgroup(self) -> cgroup.Cgroup:
        return cgroup.Cgroup(self.cgroup_path, cgroup.detect())

    def config(self) -> Config:
        """The configuration as it was when the container was created."""
        if self._config is None:
            with open(os.path.join(self.folder, _CONFIG), "rb") as stream:
                self._config = plainjson.loads(stream.read())
        return self._config

    @property
    def socket(self) -> str:
        return os.path.join(self.folder, _SOCKET)

    @property
    def alive(self) -> bool:
        """Whether its first process is there, and not another one of the same number."""
        return self.boot == boot_id() and alive(self.pid, self.started)

    def status(self) -> str:
        """As the specification says it, and `paused`."""
        if not self.pid:
            maker = self.boot == boot_id() and alive(self.maker, self.maker_started)
            return CREATING if maker else STOPPED
        if not self.alive:
            return STOPPED
        if self.waiting and self._waits():
            return CREATED
        from .. import cgroup_freeze

        return PAUSED if cgroup_freeze.frozen(self.cgroup()) else RUNNING

    def hooks(self) -> Hooks | None:
        """Those that the configuration has, told about this container."""
        if not self.config().get("hooks"):
            return None
        from ..hooks import prepare

        found = prepare(self.config(), self.id, self.bundle)
        if found is not None:
            found.pid = self.pid
        return found

    def _waits(self) -> bool:
        """The socket is closed on exec: what the first process has open says whether it still waits."""
        wanted = f"socket:[{self.waiting}]"
        folder = f"/proc/{self.pid}/fd"
        try:
            return any(os.readlink(f"{folder}/{fd}") == wanted for fd in os.listdir(folder))
        except OSError:
            return False

    def state(self) -> dict[str, Any]:
        """What `state` prints, and hooks get."""
        status = self.status()
        return {
            "ociVersion": VERSION,
            "id": self.id,
            "status": status,
            "pid": 0 if status == STOPPED else self.pid,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": _moment(self.created),
            "owner": "",
            "annotations": self.annotations,
        }

    def write(self) -> None:
        """Replace state.json. No fsync: what it says ends with the host's run."""
        known = {
            key: value
            for key, value in self.__dict__.items()
            if key not in ("folder", "root", "_config")
        }
        _write(os.path.join(self.folder, _STATE), plainjson.dumps(known).encode())

    def appoint(self, pid: int, waiting: int) -> None:
        """It is made: note its first process."""
        self.pid, self.started, self.waiting = pid, start_time(pid), waiting
        self.write()

    def remove(self) -> None:
        """Remove the folder, state.json last; twice is fine."""
        try:
            names = sorted(os.listdir(self.folder), key=lambda name: name == _STATE)
        except FileNotFoundError:
            return
        for name in names:
            os.unlink(os.path.join(self.folder, name))
        os.rmdir(self.folder)

    def lock(self) -> int:
        """A descriptor with which nobody else changes this container. Raises RuntimeFailure: there is none."""
        while True:
            try:
                fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.samestat(os.stat(self.folder), os.fstat(fd)):
                    return fd
            except FileNotFoundError:
                raise missing(self.id) from None
            os.close(fd)  # it was removed while this waited, and another one made


def check(identifier: str) -> str:
    """The identifier, if it is one. Raises RuntimeFailure."""
    if not identifier or not _PLAIN.issuperset(identifier) or identifier in (".", ".."):
        raise RuntimeFailure(
            f"cannot use {identifier!r} as a container's name: invalid container ID format",
            hint="letters, digits and _ + - . are possible",
            ref="bad-id",
        )
    return identifier


def make(root: str, identifier: str, config: Config, **known: str) -> Record:
    """Claim the name; raises RuntimeFailure where it is taken.

    Args:
        known: `bundle`, `rootfs`, `cgroup_path`, `unit`, `slice`.
    """
    record = Record(root, check(identifier))
    os.makedirs(root, 0o700, exist_ok=True)
    try:
        os.mkdir(record.folder, 0o700)
    except FileExistsError:
        raise RuntimeFailure(
            f"cannot create {identifier}: a container with that ID exists already",
            hint=f"delete {identifier}",
            ref="container-exists",
        ) from None
    record.__dict__.update(known)
    record.boot, record.created = boot_id(), time.time()
    record.maker, record.maker_started = os.getpid(), start_time(os.getpid())
    record.annotations = dict(config.get("annotations") or {})
    record.write()
    _write(os.path.join(record.folder, _CONFIG), plainjson.dumps(config).encode())
    return record


def find(root: str, identifier: str) -> Record:
    """Raises RuntimeFailure where there is no such container."""
    record = Record(root, check(identifier))
    try:
        with open(os.path.join(record.folder, _STATE), "rb") as stream:
            known = plainjson.loads(stream.read())
    except (FileNotFoundError, ValueError):
        if os.path.isdir(record.folder):  # killed between mkdir and the first write
            return record
        raise missing(identifier) from None
    for key, value in known.items():
        # Another runtime's state may lie there, where somebody gave both the same root.
        if type(value) is type(record.__dict__.get(key)):
            record.__dict__[key] = value
    return record


def identifiers(root: str) -> list[str]:
    """All containers, sorted."""
    try:
        return sorted(name for name in os.listdir(root) if _PLAIN.issuperset(name))
    except FileNotFoundError:
        return []


def missing(identifier: str) -> RuntimeFailure:
    """The error of a container that is not there."""
    return RuntimeFailure(
        f"cannot find container {identifier}: container does not exist",
        hint="list shows those that there are; another --root has others",
        ref="no-container",
    )


def _write(path: str, data: bytes) -> None:
    temp = f"{path}.{os.getpid()}"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    os.rename(temp, path)


def _moment(seconds: float) -> str:
    """RFC 3339 with nanoseconds, as others write it."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{int(seconds % 1 * 1e9):09d}Z"
