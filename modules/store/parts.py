"""Runs on the managed host: blobs that come from another host, in files that outlive a broken transfer.

They lie in `parts/`, named by their digest. What is there is never believed: it counts once the whole has the
digest. A part is locked while somebody fills it, and goes after a week in which nobody did.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time

from ..contract.errors import HostctlError
from .staging import commit_blob, prepared
from .store import Store
from .unpack import disk_full

_CHUNK = 1 << 20
_KEPT = 7 * 86400


class Part:
    """One blob on its way in; `position` is the next byte that is needed.

    Args:
        digest: `sha256:HEX`.
        size: what its manifest says.
    """

    def __init__(self, store: Store, digest: str, size: int) -> None:
        self.digest = digest
        self.size = size
        self._store = store
        self._path = os.path.join(folder(store), digest.rpartition(":")[2])
        self._fd = _locked(store, self._path)
        self._hash = hashlib.sha256()
        self.position = 0
        if os.fstat(self._fd).st_size > size:
            os.ftruncate(self._fd, 0)
        while chunk := os.pread(self._fd, _CHUNK, self.position):
            self._hash.update(chunk)
            self.position += len(chunk)
        self.kept = self.position

    @property
    def whole(self) -> bool:
        """Whether all bytes are there; their digest is not known yet."""
        return self.position >= self.size

    def write(self, offset: int, body: bytes) -> None:
        """The next bytes. Raises `ship-broken` where they are others, `disk-full`."""
        if offset != self.position or offset + len(body) > self.size:
            raise HostctlError(
                f"cannot use {self.digest}: a piece begins at byte {offset} instead of {self.position}",
                ref="ship-broken",
            )
        rest = memoryview(body)
        try:
            while rest:
                count = os.pwrite(self._fd, rest, self.position)
                self._hash.update(rest[:count])
                self.position += count
                rest = rest[count:]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(os.path.dirname(self._path), 0) from error
            raise HostctlError(
                f"cannot write {self._path}: {error.strerror}", ref="system-error"
            ) from error

    def commit(self) -> bool:
        """Give it its name in the store; False, and empty again, where the digest is wrong."""
        if self._hash.hexdigest() != self.digest.rpartition(":")[2]:
            os.ftruncate(self._fd, 0)
            self._hash = hashlib.sha256()
            self.position = 0
            return False
        os.fsync(self._fd)
        commit_blob(self._store, self.digest, self._path)
        return True

    def close(self) -> None:
        """What is there stays for the next time; an empty file does not."""
        if self.position == 0:
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass
        os.close(self._fd)


def folder(store: Store) -> str:
    """Where parts are."""
    return os.path.join(store.root, "parts")


def sweep_parts(store: Store, older: float = _KEPT) -> int:
    """Remove parts that nobody fills and nobody has filled for so many seconds; their bytes."""
    freed = 0
    try:
        names = os.listdir(folder(store))
    except FileNotFoundError:
        return 0
    for name in names:
        path = os.path.join(folder(store), name)
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            if status.st_mtime <= time.time() - older and _is_at(fd, path):
                os.unlink(path)
                freed += status.st_size
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
    return freed


def _locked(store: Store, path: str) -> int:
    """The file, opened and locked. Whoever waited for another finds a new one: the other's is a blob now."""
    with prepared(store):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_at(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_at(fd: int, path: str) -> bool:
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)
