"""Runs on the managed host: writes a layer's tar stream from the upper folder of an overlay.

The stream depends on the tree alone: names in byte order, times and owners as they are, no user names. Whiteouts
and opaque folders become `.wh.` entries (OCI image-spec, layer.md). What no layer can hold (device nodes,
sockets) is removed from the folder, so that folder and stream say the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..contract.errors import HostctlError
from .tar import BLOCK
from .tree import OPAQUE, is_whiteout

_PIECE = 1 << 20
_OCTAL = 8**11
_DIRECTORY, _FILE, _LINK, _SYMLINK, _FIFO = b"5", b"0", b"1", b"2", b"6"
_KEPT = (b"user.", b"security.capability", b"system.posix_acl_")


@dataclass(frozen=True)
class Packed:
    """What was written: the stream's digest (hex), its bytes, and bytes of files."""

    diff_id: str
    length: int
    size: int


def pack(folder: str, file: BinaryIO | None, latest: int | None = None) -> Packed:
    """Write the tree below `folder` as a layer.

    Args:
        file: takes the stream; None only counts and hashes it.
        latest: no time in the layer is after this one (seconds since 1970); the folder is changed, too.
    Raises:
        HostctlError: `disk-full`.
    """
    packer = _Packer(os.fsencode(folder), file, latest)
    try:
        packer.tree(b"")
        packer.write(b"\0" * (2 * BLOCK))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise HostctlError(
            "cannot write the layer: the disk is full",
            hint="free some space there, or move hostctl's data with hostctl_data_dir",
            ref="disk-full",
        ) from error
    return Packed(packer.digest.hexdigest(), packer.length, packer.size)


class _Packer:
    def __init__(self, root: bytes, file: BinaryIO | None, latest: int | None) -> None:
        self.digest = hashlib.sha256()
        self.length = self.size = 0
        self._root = root
        self._file = file
        self._latest = None if latest is None else latest * 1_000_000_000
        self._inodes: dict[tuple[int, int], bytes] = {}

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self.length += len(data)
        if self._file is not None:
            self._file.write(data)

    def tree(self, folder: bytes) -> None:
        """The entries below a folder, without the folder itself; deep trees take no deep stack."""
        waiting = [self._listed(folder)]
        while waiting:
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
                continue
            status = os.lstat(os.path.join(self._root, name))
            if self._entry(name, status) and stat.S_ISDIR(status.st_mode):
                waiting.append(self._listed(name))

    def _listed(self, folder: bytes) -> Iterator[bytes]:
        for name in sorted(os.listdir(os.path.join(self._root, folder) if folder else self._root)):
            yield os.path.join(folder, name) if folder else name

    def _entry(self, name: bytes, status: os.stat_result) -> bool:
        path = os.path.join(self._root, name)
        mode = status.st_mode
        if is_whiteout(status):
            parent, base = os.path.split(name)
            self._header(os.path.join(parent, b".wh." + base), _FILE, status, mode=0)
            return True
        if not (
            stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode) or stat.S_ISFIFO(mode)
        ):
            os.unlink(path)
            return False
        if self._latest is not None and status.st_mtime_ns > self._latest:
            os.utime(path, ns=(self._latest, self._latest), follow_symlinks=False)
            status = os.lstat(path)
        if stat.S_ISDIR(mode):
            self._header(name + b"/", _DIRECTORY, status, xattrs=_xattrs(path))
            if _is_opaque(path):
                self._header(os.path.join(name, b".wh..wh..opq"), _FILE, status, mode=0)
            return True
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._inodes:
            self._header(name, _LINK, status, link=self._inodes[key])
            return True
        if status.st_nlink > 1:
            self._inodes[key] = name
        if stat.S_ISLNK(mode):
            self._header(name, _SYMLINK, status, link=os.readlink(path), xattrs=_xattrs(path))
        elif stat.S_ISFIFO(mode):
            self._header(name, _FIFO, status, xattrs=_xattrs(path))
        else:
            self._content(name, path, status)
        return True

    def _content(self, name: bytes, path: bytes, status: os.stat_result) -> None:
        self._header(name, _FILE, status, size=status.st_size, xattrs=_xattrs(path))
        self.size += status.st_size
        left = status.st_size
        with open(path, "rb", buffering=0) as file:
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise OSError(errno.EIO, "a file became shorter while it was read", path)
                self.write(piece)
                left -= len(piece)
        self.write(b"\0" * (-status.st_size % BLOCK))

    def _header(
        self,
        name: bytes,
        kind: bytes,
        status: os.stat_result,
        *,
        mode: int | None = None,
        size: int = 0,
        link: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None,
    ) -> None:
        pax: dict[bytes, bytes] = {}
        if len(name) > 100:
            pax[b"path"] = name
        if len(link) > 100:
            pax[b"linkpath"] = link
        # A whiteout stands for nothing that has a time.
        seconds, rest = divmod(0 if mode == 0 else status.st_mtime_ns, 1_000_000_000)
        if rest or not 0 <= seconds < _OCTAL:
            fraction = b".%09d" % rest if rest else b""
            pax[b"mtime"] = b"%d" % seconds + fraction if seconds >= 0 else b"0"
        for key, value, limit in (
            (b"uid", status.st_uid, 8**7),
            (b"gid", status.st_gid, 8**7),
            (b"size", size, _OCTAL),
        ):
            if value >= limit:
                pax[key] = b"%d" % value
        for key, raw in sorted((xattrs or {}).items()):
            pax[b"SCHILY.xattr." + key] = raw
        if pax:
            records = b"".join(_record(key, value) for key, value in pax.items())
            self.write(_block(b"PaxHeaders/" + name[:80], b"x", 0o644, 0, 0, len(records), 0, b""))
            self.write(records + b"\0" * (-len(records) % BLOCK))
        bits = stat.S_IMODE(status.st_mode) if mode is None else mode
        self.write(
            _block(
                name[:100],
                kind,
                bits,
                status.st_uid % 8**7,
                status.st_gid % 8**7,
                size % _OCTAL,
                max(seconds, 0) % _OCTAL,
                link[:100],
            )
        )


def _block(
    name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, link: bytes
) -> bytes:
    """A ustar header (POSIX.1-2001, pax)."""
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"), mode, uid, gid, size, mtime,
    )  # fmt: skip
    tail = kind + link.ljust(100, b"\0") + b"ustar\x0000" + b"\0" * 80
    tail = tail.ljust(BLOCK - len(head) - 8, b"\0")
    total = sum(head) + sum(tail) + 8 * 0x20
    return head + b"%06o\0 " % total + tail


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    if len(str(length)) > len(str(len(body))):
        length += 1
    return b"%d" % length + body


def _xattrs(path: bytes) -> dict[bytes, bytes]:
    found = {}
    try:
        for name in os.listxattr(path, follow_symlinks=False):
            raw = os.fsencode(name)
            if raw.startswith(_KEPT):
                found[raw] = os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENODATA):
            raise
    return found


def _is_opaque(path: bytes) -> bool:
    try:
        return os.getxattr(path, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False
