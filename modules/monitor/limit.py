"""Runs on the managed host: how much disk the logs of all containers together may take.

Whoever rotates a log, or has written another `log.STEP` to one, looks at all of them and removes the oldest rotated
files, until the rest is within the limit. Open ones cannot be removed: monitors are told to rotate large ones before
it comes to that, and the largest where open ones alone are above the limit. Nothing else keeps count: what a kill
leaves undone, the next look does.
"""

from __future__ import annotations

import fcntl
import os

from ..agent import said
from ..agent.paths import Paths
from . import control, files

NAME = "log-limit"
"""In the data folder, where the host's inventory says one: bytes, -1 for no limit."""
_MOST = 4 << 30
_SHARE = 10
_OPEN = "container.log"
_TOLD_SECONDS = 1.0
# Of the limit: what is left when a large open file is rotated, and what is large.
_EARLY, _LARGE = 4, 8


class Open:
    """A container's open log that is too large; it `must` be cut, or is to be rotated before it comes to that."""

    def __init__(self, name: str, size: int, *, must: bool) -> None:
        self.name = name
        self.size = size
        self.must = must


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

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def __enter__(self) -> None:
        folder = os.path.join(self._paths.data, "containers")
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        too_large: list[Open] = []
        try:
            too_large = enforce(self._paths.data)
        finally:
            os.close(self._fd)
        # Without the lock: a monitor that is told may be waiting for it.
        for one in too_large:
            _cut(self._paths, one)


def enforce(data: str) -> list[Open]:
    """Remove the oldest rotated files of all containers while all logs together are above the limit.

    Returns:
        The open ones that are to be rotated as well, largest first.
    """
    most = limit(data)
    if most < 0:
        return []
    total = 0
    rotated: list[tuple[int, str, int]] = []
    opened: list[tuple[int, str]] = []
    folder = os.path.join(data, "containers")
    for name in os.listdir(folder):
        for path, size, changed in _files(os.path.join(folder, name, "log")):
            total += size
            if os.path.basename(path) == _OPEN:
                opened.append((size, name))
            elif not path.endswith(".tmp"):
                rotated.append((changed, path, size))
    for _, path, size in sorted(rotated):
        if total <= most:
            break
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # its container has just been removed, or it has just been packed
        total -= size
    return _too_large(opened, total, most)


def _too_large(opened: list[tuple[int, str]], total: int, most: int) -> list[Open]:
    """So many of the largest that the rest is within the limit; else the largest, where there is not much left."""
    found = []
    for size, name in sorted(opened, reverse=True):
        if total > most:
            found.append(Open(name, size, must=True))
            total -= size
    if not found and sum(size for size, _ in opened) > most - most // _EARLY:
        size, name = max(opened)
        if size >= most // _LARGE:
            found.append(Open(name, size, must=False))
    return found


def _cut(paths: Paths, one: Open) -> None:
    """Have the container's log rotated, if it is still as large; where no monitor writes it, empty it.

    Nobody waits for it: the monitor may be about to rotate, and its next look removes what it has rotated.
    """
    path = os.path.join(paths.container_run(one.name), files.SOCKET)
    try:
        peer = control.connect(path, _TOLD_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError):
        if one.must:
            _empty(os.path.join(paths.container(one.name), "log", _OPEN))
        return
    except OSError:
        return  # so much else is asked of it
    try:
        peer.sendall(b'{"version": 1, "verb": "rotate", "size": %d}\n' % one.size)
    except OSError:
        pass  # it ends just now
    finally:
        peer.close()


def _empty(path: str) -> None:
    """Not removed: a monitor that has just opened it appends to what is there."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC))
    except FileNotFoundError:
        pass


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
