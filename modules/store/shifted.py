"""Runs on the managed host: layers again, for a range of ids, where the kernel cannot show them to it.

`DATA/store/shifted/FIRST/SHORT/` is the layer that `l/SHORT` stands for, given to the users from FIRST on:
complete, because it gets this name last. It goes with the layer (`collect`) or with the range (`remove`).
"""

from __future__ import annotations

import errno
import os
import stat

from ..contract.errors import HostctlError
from ..contract.users import USERS
from ..runtime import id_shift
from .staging import exclusive, prepared, scratch, sync
from .store import Store

_PIECE = 1 << 24
_NOBODY = 65534


def ensure(store: Store, first: int, layers: list[str]) -> str:
    """Have copies of these layers, for a range.

    Args:
        layers: short names.
    Returns:
        The folder in which they lie under the same names.
    Raises:
        HostctlError: the disk is full, or a layer cannot be copied.
    """
    folder = _folder(store, first)
    for short in layers:
        final = os.path.join(folder, short)
        with exclusive(store, f"{first}/{short}"):
            if not os.path.isdir(final):
                _bring(store, first, short, final)
    return folder


def _bring(store: Store, first: int, short: str, final: str) -> None:
    source = os.path.realpath(os.path.join(store.links_dir, short))
    with scratch(store) as room:
        made = os.path.join(room, short)
        try:
            _Copy(first).folder(os.fsencode(source), os.fsencode(made))
        except OSError as error:
            hint = "make room in the data folder" if error.errno == errno.ENOSPC else ""
            raise HostctlError(
                f"cannot copy a layer for user namespaces: {error}", hint=hint, ref="layer-copy"
            ) from error
        sync(store)
        with prepared(store):
            os.makedirs(os.path.dirname(final), 0o700, exist_ok=True)
            os.rename(made, final)


def remove(store: Store, first: int) -> None:
    """Remove the copies made for a range; twice is fine."""
    folder = _folder(store, first)
    if not os.path.isdir(folder):
        return
    with scratch(store) as doomed:
        os.rename(folder, os.path.join(doomed, "range"))
    _drop(os.path.dirname(folder))


def collect(store: Store, doomed: str) -> None:
    """Move the copies of layers that are no more into a folder that will be removed."""
    top = os.path.join(store.root, "shifted")
    for first in os.listdir(top) if os.path.isdir(top) else ():
        for short in os.listdir(os.path.join(top, first)):
            if not os.path.lexists(os.path.join(store.links_dir, short)):
                os.rename(os.path.join(top, first, short), os.path.join(doomed, f"{first}.{short}"))
        _drop(os.path.join(top, first))
    _drop(top)


def _drop(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        return  # something is in it, or it is not there


def _folder(store: Store, first: int) -> str:
    return os.path.join(store.root, "shifted", str(first))


class _Copy:
    """Copies one tree: owners shifted; modes, times, attributes, holes and hard links as they are."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._linked: dict[int, bytes] = {}

    def folder(self, source: bytes, target: bytes) -> None:
        """Without recursion: a layer may be deeper than Python's stack."""
        todo = [(source, target)]
        done = []
        while todo:
            here, there = todo.pop()
            os.mkdir(there, 0o700)
            done.append((here, there))
            with os.scandir(here) as entries:
                for entry in entries:
                    below = os.path.join(there, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append((entry.path, below))
                    else:
                        self._entry(entry.path, below)
        # Times last, and deepest first: what is made in a folder changes its own.
        for here, there in reversed(done):
            self._status(here, there, os.lstat(here))

    def _entry(self, source: bytes, target: bytes) -> None:
        status = os.lstat(source)
        if status.st_nlink > 1:
            if status.st_ino in self._linked:
                os.link(self._linked[status.st_ino], target, follow_symlinks=False)
                return
            self._linked[status.st_ino] = target
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            _content(source, target, status.st_size)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), target)
        else:
            # A FIFO, or overlayfs's mark for "removed here".
            os.mknod(target, kind | 0o600, status.st_rdev)
        self._status(source, target, status)

    def _status(self, source: bytes, target: bytes, status: os.stat_result) -> None:
        os.lchown(target, self._shifted(status.st_uid), self._shifted(status.st_gid))
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(target, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(source, follow_symlinks=False):
            value = os.getxattr(source, name, follow_symlinks=False)
            value = id_shift.attribute(name, value, self._shifted, self._shifted)
            os.setxattr(target, name, value, follow_symlinks=False)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(target, ns=times, follow_symlinks=False)

    def _shifted(self, number: int) -> int:
        """Who is outside of the range is nobody, as an idmapped mount shows it."""
        return self._first + (number if number < USERS else _NOBODY)


def _content(source: bytes, target: bytes, size: int) -> None:
    """The bytes, shared with the source where the file system can do that; holes stay holes."""
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(writer, size)
            end = 0
            while end < size:
                try:
                    begin = os.lseek(reader, end, os.SEEK_DATA)
                except OSError as error:
                    if error.errno == errno.ENXIO:
                        return  # a hole up to the end
                    raise
                end = os.lseek(reader, begin, os.SEEK_HOLE)
                _piece(reader, writer, begin, end)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _piece(reader: int, writer: int, begin: int, end: int) -> None:
    while begin < end:
        count = min(_PIECE, end - begin)
        try:
            done = os.copy_file_range(reader, writer, count, begin, begin)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV):
                raise
            done = os.pwrite(writer, os.pread(reader, count, begin), begin)
        if not done:
            return
        begin += done
