"""Runs on the managed host: the files that describe one container to its monitor, and its pipes."""

from __future__ import annotations

import fcntl
import os
import stat

from ..agent.paths import Paths
from ..contract import plainjson
from ..runtime import cgroup, config
from ..runtime.reading import content
from .restart import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STOP_SIGNAL, STOP_GRACE = 15, 10.0
MAX_SIZE, MAX_FILE = 10 << 20, 3
STREAMS = ("stdout", "stderr")
CGROUP = "cgroup"
"""In a container's folder, where it lives in a cgroup of the user's choice: its path."""
STOPPED = "stopped"
"""In a container's folder, while a user wants it to stay stopped."""
SOCKET, LOCK, CRASH = "monitor.sock", "monitor.lock", "monitor.crash"


class Settings:
    """monitor.json; what it does not say is Docker's default."""

    def __init__(self, data: dict[str, Any]) -> None:
        log = data.get("log") or {}
        self.healthcheck: dict[str, Any] | None = data.get("healthcheck")
        self.restart_on = str(data.get("restart_on") or "")
        self.policy = Policy(data.get("restart") or "no")
        self.stop_signal = int(data.get("stop_signal") or STOP_SIGNAL)
        grace = data.get("stop_grace_period")
        self.stop_grace = STOP_GRACE if grace is None else float(grace)
        self.pre_stop: list[dict[str, Any]] = data.get("pre_stop") or []
        self.tty = bool(data.get("tty"))
        self.stdin_open = bool(data.get("stdin_open"))
        self.log_driver = str(log.get("driver") or "json-file")
        self.log_image = str(log.get("image") or "")
        self.log_tag = str(log.get("tag") or "")
        self.log_compress = bool(log.get("compress", True))
        self.log_max_size = int(log.get("max_size") or MAX_SIZE)
        self.log_max_file = int(log.get("max_file") or MAX_FILE)


def settings(paths: Paths, name: str) -> Settings:
    return Settings(_read(os.path.join(paths.container(name), "monitor.json")))


def network(paths: Paths, name: str) -> dict[str, Any]:
    """network.json: endpoints, ports, whether it has a resolver."""
    return _read(os.path.join(paths.container(name), "network.json"))


def bundle(paths: Paths, name: str) -> str:
    return os.path.join(paths.container(name), "bundle")


def cgroup_path(paths: Paths, name: str) -> str:
    """Where its processes live, from the root of each hierarchy: as `cgroup_parent` said, or among ours."""
    try:
        return content(os.path.join(paths.container(name), CGROUP)).decode()
    except FileNotFoundError:
        return cgroup.container_path(paths.run, name)


def identity(paths: Paths, name: str) -> str:
    """64 hexadecimal digits that are this container's for as long as it is there, as other tools know containers."""
    path = os.path.join(paths.container(name), "id")
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read()
    except FileNotFoundError:
        temp = f"{path}.{os.getpid()}"
    with open(temp, "w", encoding="ascii", opener=private) as stream:
        stream.write(os.urandom(32).hex())
    try:
        os.link(temp, path)  # the first one stays
    except FileExistsError:
        pass
    os.unlink(temp)
    return identity(paths, name)


def stopped_by_user(paths: Paths, name: str) -> bool:
    return os.path.exists(os.path.join(paths.container(name), STOPPED))


def set_stopped(paths: Paths, name: str, *, by_user: bool) -> None:
    """Remember, over reboots, that a user wants it stopped; or that he does not any more."""
    path = os.path.join(paths.container(name), STOPPED)
    if by_user:
        with open(path, "wb", opener=private) as stream:
            os.fsync(stream.fileno())
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def load(paths: Paths, name: str) -> config.Config:
    """config.json of the container's bundle."""
    return config.load(bundle(paths, name))


def _read(path: str) -> dict[str, Any]:
    try:
        data = plainjson.loads(content(path))
    except FileNotFoundError:
        return {}
    return data if isinstance(data, dict) else {}


def lock(folder: str) -> int:
    """The lock that a container's monitor has for as long as it, or an act that it has begun, lives.

    Returns:
        A descriptor that holds it; -1 where somebody else has it.
    Raises:
        FileNotFoundError: there is no such run folder, and so no monitor.
    """
    fd = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever has just removed the container has removed this file, too: there may be another.
        if os.fstat(fd).st_nlink:
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return -1


def open_pipes(folder: str) -> dict[str, int]:
    """The container's stdout and stderr, made if missing, not blocking.

    Read and write: without a writer there is no end of file, and without a monitor the container
    still has a reader (itself) and blocks when the pipe is full, instead of being killed.
    """
    found = {}
    for stream in STREAMS:
        found[stream] = _pipe(os.path.join(folder, stream))
    return found


def private(path: str, flags: int) -> int:
    """An opener (see open()) for files that are nobody else's."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _pipe(path: str) -> int:
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            os.unlink(path)
            os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def open_stdio(folder: str, *, stdin: bool = False) -> list[int]:
    """What the container gets as 0, 1 and 2: descriptions of its own, which do block.

    With `stdin` it waits for input that may come; else there is none.
    """
    if stdin:
        os.close(_pipe(os.path.join(folder, "stdin")))
        found = [os.open(os.path.join(folder, "stdin"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)]
    else:
        found = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    for stream in STREAMS:
        path = os.path.join(folder, stream)
        found.append(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
    return found
