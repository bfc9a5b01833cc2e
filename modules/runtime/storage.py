"""Runs on the managed host: volumes that are more than a folder: of a file system of their own, or a part.

A file system is mounted detached, by the parent, in the host's network namespace (NFS is reached from
there), and hung into the container's by the child: it has no place in the host's tree, and ends with the
container, whoever was killed. Source: fsopen(2), fsconfig(2), fsmount(2).
"""

from __future__ import annotations

import errno
import os

from ..contract import plainjson
from . import mount_options
from . import syscalls as sys
from .config import STORAGE, Config, RuntimeFailure, annotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .mount_options import Mount
    from .volumes import Fill

_SUPERBLOCK = ((sys.MS_RDONLY, "ro"), (sys.MS_SYNCHRONOUS, "sync"), (sys.MS_DIRSYNC, "dirsync"))
_ATTRIBUTES = (
    (sys.MS_RDONLY, sys.MOUNT_ATTR_RDONLY),
    (sys.MS_NOSUID, sys.MOUNT_ATTR_NOSUID),
    (sys.MS_NODEV, sys.MOUNT_ATTR_NODEV),
    (sys.MS_NOEXEC, sys.MOUNT_ATTR_NOEXEC),
    (sys.MS_NOATIME, sys.MOUNT_ATTR_NOATIME),
)
_REMOTE = ("nfs", "nfs4", "cifs", "smb3")


class Storage:
    """What stands in for plain sources, by descriptor: detached file systems, and parts of volumes."""

    def __init__(self) -> None:
        self.fds: list[int] = []


def prepare(config: Config, mounts: list[Mount], fills: list[Fill]) -> Storage | None:
    """Parent: mount and open what the annotation asks for; None where it asks for nothing.

    It becomes the `tree` of its mount. A part of a volume is looked up once: what somebody puts at its path
    meanwhile does not matter. What is filled from the image, and is no folder of the host, is filled by its
    descriptor.

    Raises:
        RuntimeFailure: a file system cannot be mounted, a part is not there or leads out of its volume.
    """
    wanted = annotation(config, STORAGE)
    if not wanted:
        return None
    entries = plainjson.loads(wanted)
    found = Storage()
    try:
        for mount in mounts:
            entry = entries.get(mount.destination) if mount.bind else None
            if not entry:
                continue
            whole = mount.source
            if entry.get("type"):
                _replace(mount, _file_system(entry), found)
                whole = mount.source
                for fill in fills:
                    if fill.target == mount.destination:
                        fill.source = whole
            if entry.get("subpath"):
                _replace(mount, _part(whole, mount, entry["subpath"]), found)
    except BaseException:
        release(found)
        raise
    return found


def _replace(mount: Mount, tree: int, found: Storage) -> None:
    """Whatever is done with the mount's source from now on, it is this."""
    found.fds.append(tree)
    mount.tree = tree
    mount.source = f"/proc/self/fd/{tree}"


def _part(whole: str, mount: Mount, path: str) -> int:
    """A descriptor of a part of a volume, as a mount that hangs nowhere."""
    inside = part = -1
    try:
        inside = os.open(whole, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        how = sys.RESOLVE_BENEATH | sys.RESOLVE_NO_MAGICLINKS
        part = sys.openat2(inside, path, os.O_PATH | os.O_CLOEXEC, 0, how)
        return sys.open_tree("", sys.OPEN_TREE_CLONE | sys.AT_EMPTY_PATH, part)
    except OSError as error:
        cause, hint = (
            os.strerror(error.errno or 0),
            "make it in the volume first, or correct the `subpath`",
        )
        if error.errno in (errno.EXDEV, errno.ELOOP):
            cause, hint = "it leads out of the volume", "a link in the volume points elsewhere"
        raise RuntimeFailure(
            f"cannot mount {path} of the volume at {mount.destination}: {cause}",
            hint=hint,
            ref="bad-subpath",
        ) from error
    finally:
        for fd in (inside, part):
            if fd >= 0:
                os.close(fd)


def release(storage: Storage | None) -> None:
    """Parent, once the child has its own descriptors: without them and the container it is unmounted."""
    if storage is not None:
        for fd in storage.fds:
            os.close(fd)
        storage.fds = []


def _file_system(entry: dict[str, Any]) -> int:
    """A descriptor of the mounted file system, which hangs nowhere."""
    kind, device = entry["type"], entry.get("device") or entry["type"]
    options = [item for item in (entry.get("options") or "").split(",") if item]
    if kind in _REMOTE:
        options = _with_address(kind, device, options)
    parsed = mount_options.parse(
        {"destination": "/", "type": kind, "source": device, "options": options}
    )
    context = -1
    try:
        context = sys.fsopen(kind)
        sys.fsconfig(context, sys.FSCONFIG_SET_STRING, "source", device)
        for flag, name in _SUPERBLOCK:
            if parsed.set_flags & flag:
                sys.fsconfig(context, sys.FSCONFIG_SET_FLAG, name)
        for item in filter(None, parsed.data.split(",")):
            name, sign, value = item.partition("=")
            command = sys.FSCONFIG_SET_STRING if sign else sys.FSCONFIG_SET_FLAG
            sys.fsconfig(context, command, name, value if sign else None)
        sys.fsconfig(context, sys.FSCONFIG_CMD_CREATE)
        attributes = sum(bit for flag, bit in _ATTRIBUTES if parsed.set_flags & flag)
        return sys.fsmount(context, attributes)
    except OSError as error:
        raise _refused(entry, kind, device, error, _said(context)) from error
    finally:
        if context >= 0:
            os.close(context)


def _with_address(kind: str, device: str, options: list[str]) -> list[str]:
    """The kernel takes an address only: the name in `addr=`, or before the device's path, is looked up."""
    import socket

    key = "addr" if kind.startswith("nfs") else "ip"
    name = next((item.partition("=")[2] for item in options if item.startswith("addr=")), "")
    if not name:
        name = device.strip("/").partition("/")[0] if key == "ip" else device.partition(":")[0]
    try:
        found = socket.getaddrinfo(name.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RuntimeFailure(
            f"cannot mount {device}: the address of {name or 'its server'} cannot be found: {error}",
            hint="name the server in `o`, as in addr=192.0.2.1",
            ref="volume-failed",
        ) from error
    rest = [item for item in options if not item.startswith(("addr=", "ip="))]
    return [f"{key}={found[0][4][0]}", *rest]


def _said(context: int) -> str:
    """The kernel's own words about the last failure (fsopen(2)); mostly it has none."""
    try:
        return os.read(context, 4096).decode(errors="replace").partition(" ")[2].strip()
    except OSError:
        return ""


def _refused(
    entry: dict[str, Any], kind: str, device: str, error: OSError, said: str
) -> RuntimeFailure:
    hint = "see `driver_opts` of the volume"
    if error.errno == errno.ENODEV:
        hint = f"this host's kernel has no {kind}; load it: modprobe {kind}"
    elif error.errno == errno.ENOSYS:
        hint = "volumes with a file system of their own need Linux 5.2"
    return RuntimeFailure(
        f"cannot mount the volume {entry['name']} ({kind}, {device}): {said or os.strerror(error.errno or 0)}",
        hint=hint,
        ref="volume-failed",
    )
