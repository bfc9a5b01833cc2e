"""Runs on the managed host, in children of a monitor: opens and rotates a container's log."""

from __future__ import annotations

import fcntl
import os

from ..agent.paths import Paths
from . import apart, files, journal, limit

NAME = "container.log"


def opened(folder: str, settings: files.Settings) -> int:
    """A descriptor for appending; its position is the end. Without a log (driver `none`) all is lost."""
    if settings.log_driver == "journald":
        return journal.connect()
    if settings.log_driver == "none":
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(os.path.join(folder, NAME), flags, 0o600)
    os.lseek(fd, 0, os.SEEK_END)
    return fd


def rotate(folder: str, settings: files.Settings, paths: Paths, size: int = 0) -> bool:
    """container.log becomes .1, .1.gz becomes .2.gz, the oldest goes. A journal rotates its own files.

    Args:
        size: only where it is at least so large.
    Returns:
        Whether another file is to be opened.
    """
    if settings.log_driver == "journald":
        return not size
    path = os.path.join(folder, NAME)
    if size and (not os.path.exists(path) or os.path.getsize(path) < size):
        return False
    _wait(f"{path}.1")
    with limit.rotating(paths):
        _rename(path, settings)
    return True


def _rename(path: str, settings: files.Settings) -> None:
    count = settings.log_max_file
    if count <= 1:
        _gone(path)
        return
    _gone(f"{path}.{count - 1}")
    _gone(f"{path}.{count - 1}.gz")
    for number in range(count - 2, 0, -1):
        for suffix in ("", ".gz"):
            if os.path.exists(f"{path}.{number}{suffix}"):
                os.rename(f"{path}.{number}{suffix}", f"{path}.{number + 1}{suffix}")
    try:
        os.rename(path, f"{path}.1")
    except FileNotFoundError:
        return
    if settings.log_compress:
        _compress(f"{path}.1")


def _gone(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _compress(path: str) -> None:
    """In a process of its own: the container's output goes on meanwhile."""
    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    apart.alone(compress, path, lock)
    os.close(lock)


def compress(path: str, lock: int) -> None:
    """PATH becomes PATH.gz; a crash leaves PATH, and a temp file that the next one replaces.

    Args:
        lock: the open file, locked: held until the end of this process.
    """
    import zlib

    os.closerange(3, lock)
    os.closerange(lock + 1, apart.LAST + 1)
    temp = f"{path}.gz.tmp"
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    with open(path, "rb") as source, open(temp, "wb", opener=files.private) as target:
        while True:
            chunk = source.read(256 << 10)
            if not chunk:
                break
            target.write(packer.compress(chunk))
        target.write(packer.flush())
    os.rename(temp, f"{path}.gz")
    _gone(path)


def _wait(path: str) -> None:
    """Until nobody compresses that file any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)
