"""Runs on the managed host: the files that describe one container to its monitor, and its pipes."""

from __future__ import annotations

import json
import os
import stat

from ..agent.paths import Paths
from ..runtime import config
from .log import MAX_FILE, MAX_SIZE
from .restart import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STOP_SIGNAL, STOP_GRACE = 15, 10.0
STREAMS = ("stdout", "stderr")
SOCKET, LOCK = "monitor.sock", "monitor.lock"


class Settings:
    """monitor.json; what it does not say is Docker's default."""

    def __init__(self, data: dict[str, Any]) -> None:
        log = data.get("log") or {}
        self.policy = Policy(data.get("restart") or "no")
        self.stop_signal = int(data.get("stop_signal") or STOP_SIGNAL)
        grace = data.get("stop_grace_period")
        self.stop_grace = STOP_GRACE if grace is None else float(grace)
        self.log_max_size = int(log.get("max_size") or MAX_SIZE)
        self.log_max_file = int(log.get("max_file") or MAX_FILE)


def settings(paths: Paths, name: str) -> Settings:
    return Settings(_read(os.path.join(paths.container(name), "monitor.json")))


def network(paths: Paths, name: str) -> dict[str, Any]:
    """network.json: endpoints, ports, whether it has a resolver."""
    return _read(os.path.join(paths.container(name), "network.json"))


def bundle(paths: Paths, name: str) -> str:
    return os.path.join(paths.container(name), "bundle")


def load(paths: Paths, name: str) -> config.Config:
    """config.json of the container's bundle."""
    return config.load(bundle(paths, name))


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            data = json.loads(stream.read())
    except FileNotFoundError:
        return {}
    return data if isinstance(data, dict) else {}


def open_pipes(folder: str) -> dict[str, int]:
    """The container's stdout and stderr, made if missing, not blocking.

    Read and write: without a writer there is no end of file, and without a monitor the container
    still has a reader (itself) and blocks when the pipe is full, instead of being killed.
    """
    found = {}
    for stream in STREAMS:
        path = os.path.join(folder, stream)
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            if not stat.S_ISFIFO(os.lstat(path).st_mode):
                os.unlink(path)
                os.mkfifo(path, 0o600)
        found[stream] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    return found


def open_stdio(folder: str) -> list[int]:
    """What the container gets as 0, 1 and 2: descriptions of its own, which do block."""
    found = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    for stream in STREAMS:
        path = os.path.join(folder, stream)
        found.append(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
    return found
