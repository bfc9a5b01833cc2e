"""Runs on the managed host: device nodes and the usual links in the container's /dev."""

from __future__ import annotations

import os
import stat

from . import mounts
from .config import Config, RuntimeFailure
from .mount_options import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINKS = (
    ("/proc/kcore", "/dev/core"),
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class Device:
    """One node."""

    def __init__(self, path: str, kind: str, major: int, minor: int) -> None:
        self.path = path
        self.kind = kind
        self.major = major
        self.minor = minor
        self.mode = 0o666
        self.uid = 0
        self.gid = 0


def prepare(config: Config, parsed: list[Mount]) -> list[Device]:
    """The default devices and `linux.devices`; none where the host's /dev itself is bound in."""
    if any(mount.bind and os.path.normpath(mount.destination) == "/dev" for mount in parsed):
        return []
    found = {
        path: Device(path, "c", major, minor)
        for path, major, minor in (
            ("/dev/null", 1, 3),
            ("/dev/zero", 1, 5),
            ("/dev/full", 1, 7),
            ("/dev/random", 1, 8),
            ("/dev/urandom", 1, 9),
            ("/dev/tty", 5, 0),
        )
    }
    for entry in (config.get("linux") or {}).get("devices") or ():
        found[entry["path"]] = _device(entry)
    return list(found.values())


def open_null(flags: int) -> int:
    """Child, inside its root: the container's own /dev/null, which an image or a volume may have replaced."""
    null = os.open("/dev/null", flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not _is_null(null):
        os.close(null)
        raise RuntimeFailure(
            "cannot use the container's /dev/null: it is not the device", ref="bad-null"
        )
    return null


def enter_stdio() -> None:
    """Child, inside its root: where stdio is the host's /dev/null, the container's takes its place.

    Through /proc/self/fd, root in the container could change the mode of the host's for everybody.
    """
    for fd in (0, 1, 2):
        if _is_null(fd):
            null = open_null(os.O_RDWR)
            os.dup2(null, fd)
            os.close(null)


def _is_null(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def _device(entry: dict[str, Any]) -> Device:
    if entry["type"] not in _KINDS:
        raise RuntimeFailure(
            f"cannot make {entry['path']}: unknown kind of device {entry['type']}",
            ref="bundle-broken",
        )
    device = Device(entry["path"], entry["type"], entry.get("major", 0), entry.get("minor", 0))
    device.mode = entry.get("fileMode") or 0o666
    device.uid = entry.get("uid") or 0
    device.gid = entry.get("gid") or 0
    return device


def enter(devices: list[Device], root: str) -> None:
    """Child, before pivot_root: make the nodes and links. Umask is 0 by now."""
    if not devices:
        return
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for device in devices:
            _make(device, root_fd)
        for target, path in LINKS:
            _link(target, path, root_fd)
    finally:
        os.close(root_fd)


def _make(device: Device, root_fd: int) -> None:
    parent, name = mounts.parent_fd(root_fd, device.path)
    try:
        number = os.makedev(device.major, device.minor)
        kind = _KINDS[device.kind]
        try:
            os.mknod(name, kind | device.mode, number, dir_fd=parent)
        except FileExistsError:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
            same = stat.S_IFMT(there.st_mode) == kind and there.st_rdev == number
            if not same:
                raise RuntimeFailure(
                    f"cannot make {device.path}: something else is there in the image",
                    ref="device-in-the-way",
                ) from None
        if device.uid or device.gid:
            os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _link(target: str, path: str, root_fd: int) -> None:
    parent, name = mounts.parent_fd(root_fd, path)
    try:
        os.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        return
    finally:
        os.close(parent)
