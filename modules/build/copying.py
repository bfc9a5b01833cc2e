"""Runs on the managed host, in a build's worker: COPY, ADD and WORKDIR: writes into a tree, and packs what came.

The writing happens with the image's tree as root, so no link in it leads anywhere else. Sources are opened before
by descriptor: files of the context by their digests, those of other stages in their own mounted trees.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass, replace
from typing import Any

from ..contract.errors import HostctlError
from ..runtime import syscalls as sys
from .modes import changed_mode
from .running import mount_overlay, packed
from .select import Item, select
from .trees import FILE, FOLDER, LINK, Folder, Node

_PIECE = 1 << 20


@dataclass(frozen=True)
class Owner:
    """Who owns what is copied; None: as it was."""

    uid: int
    gid: int


def copy(
    *,
    output: int,
    folder: str,
    cwd: str,
    lower: list[str],
    jobs: list[dict[str, Any]],
    destination: str,
    is_folder: bool,
    chown: list[int] | None,
    chmod: str,
    blob: str,
    latest: int | None,
) -> dict[str, Any]:
    """Copy, and pack the layer.

    Args:
        folder: has `upper` and `work`.
        cwd, lower: the image's layers, top first, relative to cwd.
        jobs: what is copied, one after the other: `{"items": [...]}` whose files are paths of this host;
            `{"cwd", "lower", "sources", "exclude", "parents"}` from another tree; `{"archive": path}`, whose
            content is unpacked; `{"folder": path}`: all of a folder. None: only the folder of the destination is
            made, as for WORKDIR, and for COPY whose wildcards match nothing.
        destination: absolute, in the image; `is_folder` where it has to be a folder.
        chown, chmod: empty where things keep theirs.
    Returns:
        As `running.packed`.
    """
    os.close(output)
    sys.unshare(sys.CLONE_NEWNS)
    os.umask(0)
    selected = [_selection(job, os.path.join(folder, f"source{n}")) for n, job in enumerate(jobs)]
    many = is_folder or sum(1 for items, _ in selected for _ in items[:1]) > 1
    many = many or any(flag for _, flag in selected)
    target = mount_overlay(folder, cwd, lower)
    outside = os.open("/", os.O_PATH | os.O_DIRECTORY)
    writer = _Writer(Owner(*chown) if chown else None, chmod)
    reader = _Reader(outside)
    os.chroot(target)
    os.chdir("/")
    try:
        if not jobs:
            place = destination.rstrip("/") if is_folder else posixpath.dirname(destination)
            writer.parents(place or "/")
        for items, _ in selected:
            writer.all(items, destination, many, reader)
    finally:
        os.fchdir(outside)
        os.chroot(".")
    return packed(os.path.join(folder, "upper"), blob, latest)


def _selection(job: dict[str, Any], folder: str) -> tuple[list[Item], bool]:
    if "items" in job:
        return [Item(t, p, Node(*node)) for t, p, node in job["items"]], bool(job.get("is_folder"))
    if "archive" in job:
        from .archives import unpack_archive

        root = unpack_archive(job["archive"], folder)
        items = list(select(Folder(root), ["/"]).items)
        return items[1:], True  # the archive's own top is not the destination's
    if "folder" in job:
        found = select(Folder(job["folder"]), ["/"], job.get("exclude") or ())
    else:
        os.makedirs(folder)
        root = mount_overlay(folder, job["cwd"], job["lower"], writable=False)
        found = select(Folder(root), job["sources"], job["exclude"], parents=job["parents"])
    return list(found.items), found.is_folder


class _Reader:
    """Opens sources below the host's root, whichever root this process has."""

    def __init__(self, root: int) -> None:
        self._root = root

    def open(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path.lstrip("/"), flags, dir_fd=self._root)


class _Writer:
    def __init__(self, owner: Owner | None, chmod: str) -> None:
        self._owner = owner
        self._chmod = chmod
        self._inodes: dict[int, str] = {}
        self._times: list[tuple[str, int]] = []

    def all(self, items: list[Item], destination: str, many: bool, reader: _Reader) -> None:
        """Write them below the destination, or one file as the destination."""
        place = destination
        single = len(items) == 1 and items[0].node.kind != FOLDER and items[0].target
        if single and not many and not os.path.isdir(place):
            items = [replace(items[0], target="")]
            self.parents(posixpath.dirname(place))
        elif items or many:
            top = next(
                (item for item in items if not item.target and item.node.kind == FOLDER), None
            )
            self.parents(posixpath.dirname(place))
            if not os.path.isdir(place):
                self.parents(place)
                if top is not None and not many:
                    self._settle(place, top.node)
        for item in items:
            path = posixpath.join(place, item.target) if item.target else place
            if item.target:
                parent = posixpath.dirname(path)
                if not os.path.isdir(parent):
                    self.parents(parent)
            elif item.node.kind == FOLDER:
                continue
            self._write(path, item, reader)
        for path, mtime in reversed(self._times):
            os.utime(path, ns=(mtime, mtime))
        self._times = []

    def parents(self, path: str) -> None:
        """Make a folder and those above it, 0755."""
        if os.path.isdir(path):
            return
        parent = posixpath.dirname(path)
        if parent != path:
            self.parents(parent)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            raise HostctlError(
                f"cannot make the folder {path}: a file of the image is there",
                ref="build-destination",
            ) from None
        if self._owner is not None:
            os.chown(path, self._owner.uid, self._owner.gid)

    def _write(self, path: str, item: Item, reader: _Reader) -> None:
        node = item.node
        there = _lstat(path)
        if node.kind == FOLDER:
            if there is None:
                os.mkdir(path, 0o700)
            elif not os.path.isdir(path):
                raise HostctlError(
                    f"cannot copy the folder {item.path} to {path}: a file is there",
                    ref="build-destination",
                )
            self._settle(path, node)
            return
        if there is not None:
            if stat.S_ISDIR(there.st_mode):
                raise HostctlError(
                    f"cannot copy the file {item.path} to {path}: a folder is there",
                    ref="build-destination",
                )
            os.unlink(path)
        if node.kind == LINK:
            os.symlink(node.source, path)
            uid, gid = self._owner_of(node)
            os.chown(path, uid, gid, follow_symlinks=False)
            os.utime(path, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)
        elif node.kind == FILE:
            if node.inode and node.inode in self._inodes:
                os.link(self._inodes[node.inode], path)
                return
            self._inodes[node.inode] = path
            self._file(path, node, reader)

    def _file(self, path: str, node: Node, reader: _Reader) -> None:
        source = reader.open(node.source)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(path, flags, 0o600)
            try:
                while os.sendfile(fd, source, None, _PIECE):
                    pass
                os.fchown(fd, *self._owner_of(node))
                os.fchmod(fd, changed_mode(self._chmod, node.mode, is_folder=False))
                _copy_capability(source, fd)
                os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))
            finally:
                os.close(fd)
        finally:
            os.close(source)

    def _settle(self, path: str, node: Node) -> None:
        os.chown(path, *self._owner_of(node))
        os.chmod(path, changed_mode(self._chmod, node.mode, is_folder=True))
        if node.mtime_ns:
            self._times.append((path, node.mtime_ns))

    def _owner_of(self, node: Node) -> tuple[int, int]:
        owner = self._owner
        return (owner.uid, owner.gid) if owner is not None else (node.uid, node.gid)


def _copy_capability(source: int, target: int) -> None:
    for name in ("security.capability",):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError:
            continue


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
