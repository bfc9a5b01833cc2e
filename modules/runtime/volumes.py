"""Runs on the managed host, in the container's first process: fills a new volume from the image.

As in Docker, an empty volume takes the content, owner and mode of the image's folder that it is mounted
over. A copy that was cut short is marked, and begun anew by the next start.
"""

from __future__ import annotations

import fcntl
import os
import stat

from ..agent import trees
from ..contract import plainjson
from . import id_shift, idmap
from . import syscalls as sys
from .config import FILL, Config, annotation

PIECE = 1 << 20


class Fill:
    """A folder on the host, where the container mounts it, and the file that marks a copy under way.

    `mapping` says that it is seen through one there, as the image is: the host's numbers are to lie in it.
    """

    def __init__(self, source: str, target: str, marker: str) -> None:
        self.source = source
        self.target = target
        self.marker = marker
        self.mapping: idmap.Mapping | None = None


def prepare(config: Config) -> list[Fill]:
    """Parse the annotation: a JSON object of mount target -> [folder on the host, marker]."""
    wanted = plainjson.loads(annotation(config, FILL) or "{}")
    return [Fill(source, target, marker) for target, (source, marker) in sorted(wanted.items())]


def enter(fills: list[Fill], root: str) -> None:
    """Child, once the image is mounted at `root` and before the volumes hide parts of it."""
    if not fills:
        return
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for fill in fills:
            _fill(fill, root_fd)
    finally:
        os.close(root_fd)


def _fill(fill: Fill, root_fd: int) -> None:
    """Containers that share a new volume wait for each other at the lock of its marker's folder."""
    marker = fill.marker
    lock = os.open(os.path.dirname(marker), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(marker):
            trees.empty(fill.source)
        elif os.listdir(fill.source):
            return
        image = _image_folder(root_fd, fill.target)
        if image < 0:
            return
        try:
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            copy_folder(f"/proc/self/fd/{image}", fill.source, fill.mapping)
            os.fsync(lock)
            os.unlink(marker)
        finally:
            os.close(image)
    finally:
        os.close(lock)


def _image_folder(root_fd: int, target: str) -> int:
    """A descriptor of the image's folder, found without leaving the image; -1 where it has none."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return sys.openat2(
            root_fd, target, flags, 0, sys.RESOLVE_IN_ROOT | sys.RESOLVE_NO_MAGICLINKS
        )
    except (FileNotFoundError, NotADirectoryError):
        return -1


def copy_folder(source: str, target: str, mapping: idmap.Mapping | None = None) -> None:
    """Content, then owner, mode, attributes and times of the folder itself.

    Args:
        mapping: the source is seen through it, and the target is not.
    """
    with os.scandir(source) as entries:
        for entry in entries:
            _copy_entry(entry, os.path.join(target, entry.name), mapping)
    _copy_status(source, target, os.stat(source), mapping)


def _copy_entry(entry: os.DirEntry[str], target: str, mapping: idmap.Mapping | None) -> None:
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(target, 0o700)
        copy_folder(entry.path, target, mapping)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(entry.path), target)
        os.chown(target, *_owner(status, mapping), follow_symlinks=False)
        return
    if stat.S_ISREG(status.st_mode):
        _copy_bytes(entry.path, target)
    elif stat.S_ISFIFO(status.st_mode):
        os.mkfifo(target, 0o600)
    else:
        return  # devices and sockets are the container's own to make
    _copy_status(entry.path, target, status, mapping)


def _copy_bytes(source: str, target: str) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while os.sendfile(writer, reader, None, PIECE):
                pass
            os.fsync(writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _owner(status: os.stat_result, mapping: idmap.Mapping | None) -> tuple[int, int]:
    if mapping is None:
        return status.st_uid, status.st_gid
    return idmap.inside(mapping.uids, status.st_uid), idmap.inside(mapping.gids, status.st_gid)


def _copy_status(
    source: str, target: str, status: os.stat_result, mapping: idmap.Mapping | None
) -> None:
    os.chown(target, *_owner(status, mapping))
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if name.startswith(("user.", "security.capability", "system.posix_acl")):
            value = os.getxattr(source, name)
            if mapping is not None:
                value = _attribute(name, value, mapping)
            os.setxattr(target, name, value)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _attribute(name: str, value: bytes, mapping: idmap.Mapping) -> bytes:
    return id_shift.attribute(
        name,
        value,
        lambda uid: idmap.inside(mapping.uids, uid),
        lambda gid: idmap.inside(mapping.gids, gid),
    )
