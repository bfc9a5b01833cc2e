"""Runs on the managed host: how much disk the logs of all containers together may take.

Whoever rotates a log looks at all of them and removes the oldest rotated files, until the rest is within the
limit. Nothing else keeps count: what a kill leaves undone, the next rotation of any container does.
"""

from __future__ import annotations

import fcntl
import os

from ..agent import said
from ..agent.paths import Paths

NAME = "log-limit"
"""In the data folder, where the host's inventory says one: bytes, -1 for no limit."""
_MOST = 4 << 30
_SHARE = 10
_OPEN = "container.log"


def keep(paths: Paths, wanted: str) -> None:
    """Agent: write down what the inventory says; empty: it says nothing, and the default holds."""
    said.keep(paths.data, NAME, wanted)


def limit(data: str) -> int:
    """Bytes; -1 for no limit. By default a tenth of the file system and at most 4 GB, as journald's."""
    try:
        return int(said.read(data, NAME))
    except ValueError:
        found = os.statvfs(data)
        return min(found.f_frsize * found.f_blocks // _SHARE, _MOST)


class rotating:  # reads as a word of the `with` statement
    """While one container's files are renamed, no other one counts or removes them; in the end they are counted."""

    def __init__(self, data: str) -> None:
        self._data = data

    def __enter__(self) -> None:
        folder = os.path.join(self._data, "containers")
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        try:
            enforce(self._data)
        finally:
            os.close(self._fd)


def enforce(data: str) -> None:
    """Remove the oldest rotated files of all containers while all logs together are above the limit."""
    most = limit(data)
    if most < 0:
        return
    total, rotated = 0, []
    folder = os.path.join(data, "containers")
    for name in os.listdir(folder):
        for path, size, changed in _files(os.path.join(folder, name, "log")):
            total += size
            if os.path.basename(path) != _OPEN and not path.endswith(".tmp"):
                rotated.append((changed, path, size))
    for _, path, size in sorted(rotated):
        if total <= most:
            return
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # its container has just been removed, or it has just been packed
        total -= size


def _files(folder: str) -> list[tuple[str, int, int]]:
    """Path, size and time of each file; nothing of a container that is being removed."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                found.append((entry.path, about.st_size, about.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        pass
    return found
