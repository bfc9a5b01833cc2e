"""Runs on the managed host: what builds keep beside the store: files of contexts, cache mounts; how long it stays.

`DATA/build/blobs/DIGEST` are files of contexts, `DATA/build/mounts/NAME` cache mounts; the time of each is that of
its last use. Whoever builds holds a shared lock on `DATA/build`, whoever removes an exclusive one, for a moment:
what is to go is renamed into `DATA/build/gone/`, and removed after that. A build that is going on is left alone.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..agent.files import private_folder
from ..store.staging import remove_tree
from . import cache


def folder(data: str) -> str:
    """Where all of it is."""
    return os.path.join(data, "build")


@contextmanager
def building(data: str) -> Iterator[None]:
    """While this lasts, nothing is removed."""
    private_folder(folder(data))
    with _locked(data, fcntl.LOCK_SH):
        yield


def mark(data: str, digests: Iterable[str]) -> None:
    """Note that a build has used these files."""
    for name in digests:
        try:
            os.utime(os.path.join(folder(data), "blobs", name))
        except FileNotFoundError:
            continue


def items(data: str) -> list[dict[str, Any]]:
    """What is there, for `system df`: all files as one, each cache mount; BuildKit's names for their types."""
    from ..store.usage import disk_usage

    found: list[dict[str, Any]] = []
    files = os.path.join(folder(data), "blobs")
    if size := disk_usage(files):
        found.append({"id": "files", "type": "source.local", "size": size})
    for name in _names(os.path.join(folder(data), "mounts")):
        size = disk_usage(os.path.join(folder(data), "mounts", name))
        found.append({"id": name, "type": "exec.cachemount", "size": size})
    return [{**item, "in_use": False} for item in found]


def size(data: str) -> int:
    """Bytes of all files and cache mounts."""
    return sum(item["size"] for item in items(data))


def tidy(data: str, oldest: float | None = None) -> bool:
    """Remove what was last used before `oldest` (default: what is old), and what killed processes have left.

    Records of steps go too; their layers with the next collection of the store.

    Returns:
        Whether it could be: not while a build goes on.
    """
    if not os.path.isdir(folder(data)):
        return True
    oldest = time.time() - cache.KEPT_SECONDS if oldest is None else oldest
    try:
        with _locked(data, fcntl.LOCK_EX | fcntl.LOCK_NB):
            cache.tidy(data, oldest)
            _tidy_files(os.path.join(folder(data), "blobs"), oldest)
            _tidy_mounts(data, oldest)
    except BlockingIOError:
        return False
    gone = os.path.join(folder(data), "gone")
    for name in _names(gone):
        remove_tree(os.path.join(gone, name))
    return True


def _tidy_files(parent: str, oldest: float) -> None:
    for name in _names(parent):
        path = os.path.join(parent, name)
        # Nobody receives a file now: one with a dot is what a killed build has left.
        if name.startswith(".") or os.stat(path).st_mtime < oldest:
            os.unlink(path)


def _tidy_mounts(data: str, oldest: float) -> None:
    parent = os.path.join(folder(data), "mounts")
    for name in _names(parent):
        if os.stat(os.path.join(parent, name)).st_mtime < oldest:
            gone = os.path.join(folder(data), "gone")
            private_folder(gone)
            os.rename(os.path.join(parent, name), os.path.join(gone, secrets.token_hex(6)))


@contextmanager
def _locked(data: str, how: int) -> Iterator[None]:
    fd = os.open(folder(data), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def _names(parent: str) -> list[str]:
    try:
        return sorted(os.listdir(parent))
    except FileNotFoundError:
        return []
