"""Runs on the managed host: device nodes and the usual links in the container's /dev."""

from __future__ import annotations

import os
import stat

from . import idmap, mounts
from . import syscalls as sys
from .config import Config, RuntimeFailure
from .mount_options import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .idmap import Mapping

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
    """One node.

    Attributes:
        tree: descriptor of the node as a detached mount, where the forerunner has made it; else -1.
    """

    def __init__(self, path: str, kind: str, major: int, minor: int) -> None:
        self.path = path
        self.kind = kind
        self.major = major
        self.minor = minor
        self.mode = 0o666
        self.uid = 0
        self.gid = 0
        self.tree = -1


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
    kind, path = entry.get("type"), entry.get("path")
    numbered = kind == "p" or (entry.get("major") is not None and entry.get("minor") is not None)
    if kind not in _KINDS or not str(path).startswith("/") or not numbered:
        raise RuntimeFailure(
            f"cannot make device {path}: a device has an absolute path, type c, b, u or p, and numbers",
            hint="correct linux.devices in config.json",
            ref="bundle-broken",
        )
    device = Device(entry["path"], entry["type"], entry.get("major", 0), entry.get("minor", 0))
    mode = entry.get("fileMode")
    device.mode = 0o666 if mode is None else int(mode) & 0o7777
    device.uid = entry.get("uid") or 0
    device.gid = entry.get("gid") or 0
    return device


def lay(devices: list[Device], mapping: Mapping, place: str) -> None:
    """Forerunner, with the host's rights: make the nodes, which no user namespace may, in a tmpfs of theirs.

    It hangs at `place`, in a mount namespace that ends with the forerunner: before Linux 6.15 only what hangs
    somewhere can be cloned. Where even these rights are those of a user namespace, the container gets the
    host's nodes instead.
    """
    sys.mount("tmpfs", place, "tmpfs", sys.MS_NOSUID | sys.MS_NOEXEC, "mode=0700")
    folder = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, device in enumerate(devices):
            kind = _KINDS[device.kind] | device.mode
            os.mknod(str(number), kind, os.makedev(device.major, device.minor), dir_fd=folder)
            uid = idmap.outside(mapping.uids, device.uid)
            gid = idmap.outside(mapping.gids, device.gid)
            os.chown(str(number), uid, gid, dir_fd=folder, follow_symlinks=False)
            device.tree = sys.open_tree(str(number), sys.OPEN_TREE_CLONE, folder)
    except PermissionError:
        pass
    finally:
        os.close(folder)


def enter(devices: list[Device], root: str) -> None:
    """Child, before pivot_root: make the nodes and links. Umask is 0 by now."""
    if not devices:
        return
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    folders: dict[str, int] = {}
    try:
        for device in devices:
            _make(device, *_place(root_fd, device.path, folders))
        for target, path in LINKS:
            _link(target, *_place(root_fd, path, folders))
    finally:
        for fd in (*folders.values(), root_fd):
            os.close(fd)


def _place(root_fd: int, path: str, folders: dict[str, int]) -> tuple[int, str]:
    """The folder of a path inside the root, opened once for all that goes there, and the last name."""
    above, name = os.path.split(os.path.normpath(path))
    if above not in folders:
        folders[above] = mounts.target_fd(root_fd, above, folder=True)
    return folders[above], name


def _make(device: Device, parent: int, name: str) -> None:
    number = os.makedev(device.major, device.minor)
    kind = _KINDS[device.kind]
    try:
        if device.tree >= 0:
            _bind(device.tree, parent, name)
            return
        os.mknod(name, kind | device.mode, number, dir_fd=parent)
    except PermissionError:
        # No user namespace may make nodes: it gets the host's, with the host's owner and mode.
        _bind(sys.open_tree(_host_node(device), sys.OPEN_TREE_CLONE), parent, name)
        return
    except FileExistsError:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        # A FIFO has no number.
        same = stat.S_IFMT(there.st_mode) == kind and number in (0, there.st_rdev)
        if not same:
            raise RuntimeFailure(
                f"cannot make {device.path}: something else is there in the image",
                ref="device-in-the-way",
            ) from None
    if device.uid or device.gid:
        os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)


def _bind(tree: int, parent: int, name: str) -> None:
    """Hang the node there; `tree` is closed."""
    try:
        os.mknod(name, stat.S_IFREG | 0o644, dir_fd=parent)
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            sys.move_mount(tree, target)
        finally:
            os.close(target)
    finally:
        os.close(tree)


def _host_node(device: Device) -> str:
    """The host's own node of the same number, by the same name or by the one that the kernel gave it."""
    number = os.makedev(device.major, device.minor)
    names = [device.path]
    kind = "block" if device.kind == "b" else "char"
    try:
        path = f"/sys/dev/{kind}/{device.major}:{device.minor}/uevent"
        with open(path, encoding="utf-8") as stream:
            names += [f"/dev/{line[8:].strip()}" for line in stream if line.startswith("DEVNAME=")]
    except OSError:
        pass  # a name may be known nevertheless
    for name in names:
        try:
            if os.stat(name).st_rdev == number:
                return name
        except OSError:
            continue
    raise RuntimeFailure(
        f"cannot make {device.path}: a user namespace gets the host's device nodes, and the host has none "
        f"of {device.major}:{device.minor}",
        hint="remove the device, or the user namespace",
        ref="no-device",
    )


def _link(target: str, parent: int, name: str) -> None:
    try:
        os.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        return
