"""Runs on the managed host: writes below one folder and never outside of it, whatever the names say.

Every path is walked folder by folder from the root's descriptor, without following links; a link on the
way is followed by hand, inside of the root only. Nothing else writes there meanwhile (it lies in a
folder of root's that nobody else enters), so what a walk found stays true until this object changes it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict

from ..contract.errors import HostctlError

Parts = tuple[bytes, ...]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK_LIMIT = 40
_CACHED = 64
OPAQUE = "trusted.overlay.opaque"


class Unsafe(HostctlError):
    """An archive tries to leave the folder."""

    def __init__(self, name: bytes, cause: str) -> None:
        super().__init__(
            f"cannot unpack {os.fsdecode(name)!r}: {cause}",
            hint="the layer is malicious or broken; do not use this image",
            ref="layer-unsafe",
        )


def split(name: bytes) -> Parts:
    """The parts of an archive's path, `..` resolved by text as Docker does; none for the root."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise Unsafe(name, "the path leaves the layer")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return tuple(parts)


def lstat(fd: int, base: bytes) -> os.stat_result | None:
    """What is there under the name, links not followed; None if nothing is."""
    try:
        return os.stat(base, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_whiteout(status: os.stat_result) -> bool:
    """Whether it is overlayfs's mark for "removed here": a character device 0/0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


class Tree:
    """A folder that is being filled.

    Args:
        root: the folder; the caller sees to it that nobody else writes there.
        trash: an empty folder beside it, for folders that an entry replaces.
        most: folders that may be made only because something lies in them, and a sixteenth of the steps
            that all ways together may take: a few bytes of an archive can name a long way.
    """

    def __init__(self, root: str, trash: str, most: int) -> None:
        self._folders_left, self._steps_left = most, 16 * most
        self.root_fd = os.open(root, _FOLDER)
        self._trash = trash
        self._trashed = 0
        self._open: OrderedDict[Parts, int] = OrderedDict()

    def close(self) -> None:
        """Close all descriptors."""
        self._forget()
        os.close(self.root_fd)

    def folder(self, parts: Parts, name: bytes, create: bool = True) -> int:
        """The descriptor of a folder, valid until the next call; missing ones are made (0755).

        Args:
            parts: the way from the root.
            name: the archive's entry, for messages.
            create: make what is missing.
        Raises:
            Unsafe: a link on the way leaves the root, or something there is no folder.
            FileNotFoundError: the folder is missing and `create` is false.
        """
        if not parts:
            return self.root_fd
        fd = self._open.get(parts)
        if fd is None:
            fd = self._walk(parts, name, create)
            self._open[parts] = fd
            if len(self._open) > _CACHED:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(parts)
        return fd

    def place(self, parts: Parts, name: bytes) -> tuple[int, bool]:
        """Room for a new entry: what was there is gone. Its folder, and whether a whiteout was there."""
        fd = self.folder(parts[:-1], name)
        status = lstat(fd, parts[-1])
        if status is None:
            return fd, False
        if stat.S_ISDIR(status.st_mode):
            self._trashed += 1
            os.rename(parts[-1], os.path.join(self._trash, str(self._trashed)), src_dir_fd=fd)
            self._forget()
            return self.folder(parts[:-1], name), False
        os.unlink(parts[-1], dir_fd=fd)
        if stat.S_ISLNK(status.st_mode):
            self._forget()
            return self.folder(parts[:-1], name), False
        return fd, is_whiteout(status)

    def make_folder(self, parts: Parts, name: bytes) -> int:
        """The folder itself, new or as it is (a link there is replaced); its descriptor."""
        fd = self.folder(parts[:-1], name)
        status = lstat(fd, parts[-1])
        if status is None or not stat.S_ISDIR(status.st_mode):
            fd, opaque = self.place(parts, name)
            os.close(_make(fd, parts[-1], opaque))
        return self.folder(parts, name)

    def _forget(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _walk(self, parts: Parts, name: bytes, create: bool) -> int:
        todo = [(part, False) for part in reversed(parts)]
        done: list[bytes] = []
        links = 0
        link = b""
        fd = os.dup(self.root_fd)
        try:
            while todo:
                part, from_link = todo.pop()
                self._step(name)
                if part == b"..":
                    if not done:
                        raise Unsafe(name, f"the link {os.fsdecode(link)!r} leaves the layer")
                    done.pop()
                    fd = self._again(fd, done, name)
                    continue
                try:
                    below = os.open(part, _FOLDER, dir_fd=fd)
                except FileNotFoundError:
                    if not create:
                        raise
                    if from_link:
                        raise Unsafe(
                            name, f"the link {os.fsdecode(link)!r} leads to nothing in the layer"
                        ) from None
                    self._folders_left -= 1
                    if self._folders_left < 0:
                        raise Unsafe(name, "it makes too many folders") from None
                    below = _make(fd, part)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    target = _readlink(fd, part)
                    if target is not None:
                        links += 1
                        if links > _LINK_LIMIT:
                            raise Unsafe(name, "too many links on the way") from None
                        link = part + b" -> " + target
                        if target.startswith(b"/"):
                            done.clear()
                            fd = self._again(fd, done, name)
                        steps = [step for step in target.split(b"/") if step not in (b"", b".")]
                        todo += [(step, True) for step in reversed(steps)]
                        continue
                    status = lstat(fd, part)
                    if not create or status is None or not is_whiteout(status):
                        raise Unsafe(name, f"{os.fsdecode(part)!r} is not a folder") from None
                    os.unlink(part, dir_fd=fd)
                    below = _make(fd, part, opaque=True)
                os.close(fd)
                fd = below
                done.append(part)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _step(self, name: bytes) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise Unsafe(name, "its ways are too long to follow")

    def _again(self, fd: int, done: list[bytes], name: bytes) -> int:
        """Walk anew from the root through folders that are known to be no links."""
        new = os.dup(self.root_fd)
        for part in done:
            self._step(name)
            below = os.open(part, _FOLDER, dir_fd=new)
            os.close(new)
            new = below
        os.close(fd)
        return new


def _make(fd: int, base: bytes, opaque: bool = False) -> int:
    os.mkdir(base, 0o755, dir_fd=fd)
    below = os.open(base, _FOLDER, dir_fd=fd)
    os.fchmod(below, 0o755)
    if opaque:
        os.setxattr(below, OPAQUE, b"y")
    return below


def _readlink(fd: int, base: bytes) -> bytes | None:
    try:
        return os.readlink(base, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise
