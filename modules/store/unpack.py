"""Runs on the managed host: turns a layer (a tar stream) into a folder that overlayfs can stack.

Whiteouts become character devices 0/0, opaque folders an xattr. Owners, modes, times in nanoseconds,
hard links, xattrs and sparse files are kept. What an archive may not do: leave the folder (see
`tree`), bring device nodes or overlayfs's own xattrs, or take more than the limits say.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Callable

from ..contract.errors import HostctlError
from .tar import BrokenTar, Entry, TarReader
from .tree import OPAQUE, Parts, Tree, Unsafe, is_whiteout, lstat, split

_WHITEOUT = b".wh."
_CHECK_EVERY = 32 << 20
_MAX_ID = 2**32 - 2
_FOLDER_NAMES = 256 << 20


@dataclass(frozen=True)
class Limits:
    """What one layer may take. `reserve` is what must stay free on the disk."""

    entries: int = 2_000_000
    bytes: int = 256 << 30
    reserve: int = 64 << 20


@dataclass(frozen=True)
class Unpacked:
    """What was unpacked: digest of the tar stream, bytes of files, whether it hides all below it."""

    diff_id: str
    size: int
    entries: int
    opaque: bool


def unpack(
    chunks: Iterable[bytes],
    workdir: str,
    limits: Limits | None = None,
    *,
    flow: Callable[[Iterator[bytes]], Iterable[bytes]] = iter,
) -> Unpacked:
    """Unpack an uncompressed tar stream into `workdir/root`, reading it to its end.

    Args:
        chunks: the stream.
        workdir: an empty folder that nobody else can enter; the caller removes it.
        limits: other bounds than the default ones.
        flow: takes the stream, hashed, and hands it on: perhaps from a thread of its own.
    Raises:
        HostctlError: `layer-unsafe`, `layer-broken`, `layer-device`, `layer-limit`, `disk-full`.
    """
    root, trash = os.path.join(workdir, "root"), os.path.join(workdir, "trash")
    os.mkdir(root, 0o755)
    os.chmod(root, 0o755)
    os.mkdir(trash, 0o700)
    digest = hashlib.sha256()
    bounds = limits or Limits()
    tree = Tree(root, trash, bounds.entries)
    try:
        reader = TarReader(flow(_counted(chunks, digest.update, bounds.bytes + (1 << 30))))
        worker = _Unpacker(tree, reader, workdir, bounds)
        worker.run()
    finally:
        tree.close()
    return Unpacked(digest.hexdigest(), worker.size, worker.entries, worker.opaque)


def _counted(
    chunks: Iterable[bytes], update: Callable[[bytes], None], limit: int
) -> Iterator[bytes]:
    left = limit
    for chunk in chunks:
        update(chunk)
        left -= len(chunk)
        if left < 0:
            raise _limit(f"more than {limit >> 20} MiB")
        yield chunk


class _Unpacker:
    def __init__(self, tree: Tree, reader: TarReader, workdir: str, limits: Limits) -> None:
        self.size = self.entries = 0
        self.opaque = False
        self._tree = tree
        self._reader = reader
        self._workdir = workdir
        self._limits = limits
        self._unchecked = 0
        self._times: dict[bytes, int] = {}
        self._names_left = _FOLDER_NAMES

    def run(self) -> None:
        for entry in self._reader:
            self.entries += 1
            if self.entries > self._limits.entries:
                raise _limit(f"more than {self._limits.entries} entries")
            try:
                self._one(entry)
            except OSError as error:
                raise _explain(error, entry.name) from error
        for name in reversed(self._times):
            self._late_time(split(name), self._times[name])

    def _one(self, entry: Entry) -> None:
        parts = split(entry.name)
        if max(entry.uid, entry.gid) > _MAX_ID:
            raise BrokenTar(f"{os.fsdecode(entry.name)!r} has an owner of more than 32 bits")
        if not parts:
            if entry.kind != b"5":
                raise Unsafe(entry.name, "it would replace the layer's root")
            self._finish(self._tree.root_fd, entry)
            self._times[b""] = entry.mtime_ns
        elif parts[-1].startswith(_WHITEOUT):
            self._hide(parts, entry)
        elif entry.kind == b"5":
            fd = self._tree.make_folder(parts, entry.name)
            self._finish(fd, entry)
            self._remember_time(parts, entry.mtime_ns)
        elif entry.kind == b"0":
            self._file(parts, entry)
        elif entry.kind == b"1":
            self._hard_link(parts, entry)
        elif entry.kind in b"26":
            self._special(parts, entry)
        elif entry.kind in b"34":
            # The container's /dev always lies above this one, and distribution tarballs fill it.
            if parts[0] != b"dev":
                raise HostctlError(
                    f"cannot unpack {os.fsdecode(entry.name)!r}: device nodes are not taken from images",
                    hint="give the container the device with `devices:` instead",
                    ref="layer-device",
                )
        else:
            raise BrokenTar(f"{os.fsdecode(entry.name)!r} is of an unknown type {entry.kind!r}")

    def _hide(self, parts: Parts, entry: Entry) -> None:
        hidden = parts[-1][len(_WHITEOUT) :]
        if hidden == b".wh..opq":
            fd = self._tree.folder(parts[:-1], entry.name)
            if len(parts) == 1:
                self.opaque = True
            os.setxattr(fd, OPAQUE, b"y")
            return
        if hidden.startswith(_WHITEOUT):
            # Other names of this form are bookkeeping of AUFS.
            return
        if hidden in (b"", b".", b".."):
            raise Unsafe(entry.name, "a whiteout without a name")
        fd = self._tree.folder(parts[:-1], entry.name)
        if lstat(fd, hidden) is None:
            os.mknod(hidden, 0o600 | 0o020000, 0, dir_fd=fd)
            return
        # What this layer itself brings stays and hides what is below; a folder must be told so.
        try:
            below = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        except OSError:
            return
        try:
            os.setxattr(below, OPAQUE, b"y")
        finally:
            os.close(below)

    def _file(self, parts: Parts, entry: Entry) -> None:
        self.size += entry.real_size
        if self.size > self._limits.bytes:
            raise _limit(f"more than {self._limits.bytes >> 20} MiB of files")
        self._unchecked += entry.size
        if self._unchecked > _CHECK_EVERY:
            self._check_space()
            self._unchecked = 0
        parent, _ = self._tree.place(parts, entry.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(parts[-1], flags, 0o600, dir_fd=parent)
        try:
            for offset, length in [(0, entry.size)] if entry.data is None else entry.data:
                for piece in self._reader.pieces(length):
                    while piece:
                        written = os.pwrite(fd, piece, offset)
                        offset += written
                        piece = piece[written:]
            if entry.data is not None:
                os.ftruncate(fd, entry.real_size)
            self._finish(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _hard_link(self, parts: Parts, entry: Entry) -> None:
        target = split(entry.linkname)
        if not target:
            raise Unsafe(entry.name, "a hard link to the layer's root")
        if target == parts:
            return
        try:
            source = os.dup(self._tree.folder(target[:-1], entry.name, create=False))
        except FileNotFoundError:
            raise _no_target(entry) from None
        try:
            status = lstat(source, target[-1])
            if status is None or is_whiteout(status):
                raise _no_target(entry)
            parent, _ = self._tree.place(parts, entry.name)
            try:
                os.link(
                    target[-1],
                    parts[-1],
                    src_dir_fd=source,
                    dst_dir_fd=parent,
                    follow_symlinks=False,
                )
            except FileNotFoundError:
                # Two names of one file: `place` has just removed it.
                raise _no_target(entry) from None
        finally:
            os.close(source)

    def _special(self, parts: Parts, entry: Entry) -> None:
        """A symbolic link or a FIFO: there is no descriptor to change it by."""
        parent, _ = self._tree.place(parts, entry.name)
        base = parts[-1]
        if entry.kind == b"2":
            if not entry.linkname:
                raise BrokenTar(f"{os.fsdecode(entry.name)!r} is a link to nothing")
            os.symlink(entry.linkname, base, dir_fd=parent)
        else:
            os.mkfifo(base, 0o600, dir_fd=parent)
        os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        path = b"/proc/self/fd/%d/%s" % (parent, base)
        if entry.kind == b"6":
            os.chmod(path, entry.mode)
        _xattrs(path, entry, follow=False)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(base, ns=times, dir_fd=parent, follow_symlinks=False)

    def _finish(self, fd: int, entry: Entry) -> None:
        """Owner first: the kernel drops setuid and capabilities when it changes."""
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        if entry.xattrs:
            _xattrs(fd, entry)

    def _remember_time(self, parts: Parts, mtime: int) -> None:
        """For `_late_time`; the names of all folders are kept in memory, and so must have an end."""
        name = b"/".join(parts)
        self._names_left -= len(name)
        if self._names_left < 0:
            raise _limit("too many folders with long names")
        self._times[name] = mtime

    def _late_time(self, parts: Parts, mtime: int) -> None:
        """A folder's time, once nothing more is made in it. It may have been replaced meanwhile."""
        try:
            parent = self._tree.folder(parts[:-1], b"", create=False)
            if parts:
                os.utime(parts[-1], ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)
            else:
                os.utime(parent, ns=(mtime, mtime))
        except (FileNotFoundError, Unsafe):
            pass
        except OSError as error:
            raise _explain(error, b"/".join(parts)) from error

    def _check_space(self) -> None:
        status = os.statvfs(self._workdir)
        total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
        if free < min(self._limits.reserve, total // 20):
            raise disk_full(self._workdir, free)


def _xattrs(target: int | bytes, entry: Entry, follow: bool = True) -> None:
    for name, value in entry.xattrs.items():
        if name.startswith((b"trusted.overlay.", b"user.overlay.")):
            raise Unsafe(entry.name, f"it sets overlayfs's own {os.fsdecode(name)}")
        if name.startswith((b"trusted.", b"security.")) and name != b"security.capability":
            # Marks of the machine that built the image, such as SELinux labels.
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            # The file system, or this type of file, has no such attributes.
            if error.errno not in (errno.ENOTSUP, errno.EPERM) or name == b"security.capability":
                raise


def _no_target(entry: Entry) -> BrokenTar:
    link, name = os.fsdecode(entry.linkname), os.fsdecode(entry.name)
    return BrokenTar(f"{name!r} is a hard link to {link!r}, which the layer does not have")


def _limit(cause: str) -> HostctlError:
    return HostctlError(
        f"cannot unpack the layer: it has {cause}",
        hint="if this is a real image, split the layer",
        ref="layer-limit",
    )


def disk_full(path: str, free: int) -> HostctlError:
    """The error for a store without room."""
    return HostctlError(
        f"cannot unpack the layer: the disk is full ({free >> 20} MiB free below {path})",
        hint="free some space there, or move hostctl's data with hostctl_data_dir",
        ref="disk-full",
    )


def _explain(error: OSError, name: bytes) -> HostctlError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostctlError(
            f"cannot unpack {os.fsdecode(name)!r}: the disk is full",
            hint="free some space there, or move hostctl's data with hostctl_data_dir",
            ref="disk-full",
        )
    return HostctlError(
        f"cannot unpack {os.fsdecode(name)[:200]!r}: {error.strerror or error}", ref="layer-broken"
    )
