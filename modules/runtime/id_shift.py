"""Runs on the managed host: owners of files told by other numbers: chown(2), and what else names an owner.

Attributes hold numbers too: an ACL's entries, and the root to whom a file's capabilities belong. They are
packed little-endian. Source: linux/posix_acl_xattr.h, linux/capability.h, user_namespaces(7).
"""

from __future__ import annotations

import errno
import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    Renumber = Callable[[int], int]

CAPABILITY = "security.capability"
_KEPT = "trusted.hostctl.kept"
"""While a file changes hands: what chown(2) takes from it: its mode, four bytes, then its capabilities."""
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_ACL_USER, _ACL_GROUP = 0x02, 0x08
_CAP_2, _CAP_3, _CAP_MASK = 0x02000000, 0x03000000, 0xFF000000


def attribute(name: str, value: bytes, uid: Renumber, gid: Renumber) -> bytes:
    """The value of an extended attribute with its numbers replaced."""
    if name == CAPABILITY:
        return _capability(value, uid)
    return _acl(value, uid, gid) if name in _ACLS else value


def _capability(value: bytes, uid: Renumber) -> bytes:
    """Capabilities of the host's root have no number (revision 2); of another root they have (3)."""
    (magic,) = struct.unpack_from("<I", value)
    if magic & _CAP_MASK not in (_CAP_2, _CAP_3):
        return value
    root = uid(struct.unpack_from("<I", value, 20)[0] if magic & _CAP_MASK == _CAP_3 else 0)
    flags = magic & ~_CAP_MASK
    if root == 0:
        return struct.pack("<I", _CAP_2 | flags) + value[4:20]
    return struct.pack("<I", _CAP_3 | flags) + value[4:20] + struct.pack("<I", root)


def _acl(value: bytes, uid: Renumber, gid: Renumber) -> bytes:
    out = bytearray(value)
    for at in range(4, len(value) - 7, 8):
        tag, _, number = struct.unpack_from("<HHI", value, at)
        if tag in (_ACL_USER, _ACL_GROUP):
            change = uid if tag == _ACL_USER else gid
            struct.pack_into("<I", out, at + 4, change(number))
    return bytes(out)


def tree(folder: str, renumber: Renumber) -> None:
    """Give all files of a folder, and the folder itself, to others. Links are not followed.

    Again after a kill it completes the change, if `renumber` leaves alone what it has made: what a new owner
    takes from a program (setuid, setgid, capabilities) is kept beside it meanwhile, where the file system can.
    """
    for _, folders, files, fd in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            _give(name, fd, renumber)
    _give(folder, None, renumber)


def _give(name: str, folder: int | None, renumber: Renumber) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    uid, gid = renumber(status.st_uid), renumber(status.st_gid)
    others = (uid, gid) != (status.st_uid, status.st_gid)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        if others:
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        attributes = _attributes(fd, renumber)
        kept = _kept(fd, renumber)
        if kept is None and others:
            kept = _keep(fd, status.st_mode, attributes.get(CAPABILITY, b""))
        if others:
            os.fchown(fd, uid, gid)
        # A new owner takes these bits and the capabilities from a program.
        mode, capabilities = kept or (stat.S_IMODE(status.st_mode), attributes.get(CAPABILITY, b""))
        if mode & (stat.S_ISUID | stat.S_ISGID):
            os.fchmod(fd, mode)
        if capabilities:
            attributes[CAPABILITY] = capabilities
        for key, value in attributes.items():
            os.setxattr(fd, key, value)
        if kept is not None:
            _forget(fd)
    finally:
        os.close(fd)


def _keep(fd: int, mode: int, capabilities: bytes) -> tuple[int, bytes] | None:
    """Write down what a new owner takes; None where that is nothing, or this file system keeps no notes."""
    mode = stat.S_IMODE(mode)
    if not mode & (stat.S_ISUID | stat.S_ISGID) and not capabilities:
        return None
    try:
        os.setxattr(fd, _KEPT, struct.pack("<I", mode) + capabilities)
    except OSError:
        return None
    return mode, capabilities


def _kept(fd: int, renumber: Renumber) -> tuple[int, bytes] | None:
    """What a change that was killed has written down."""
    try:
        value = os.getxattr(fd, _KEPT)
    except OSError:
        return None
    capabilities = value[4:] and attribute(CAPABILITY, value[4:], renumber, renumber)
    return struct.unpack_from("<I", value)[0], capabilities


def _forget(fd: int) -> None:
    try:
        os.removexattr(fd, _KEPT)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def _attributes(fd: int, renumber: Renumber) -> dict[str, bytes]:
    """Those that name owners, as they are to be."""
    return {
        key: attribute(key, os.getxattr(fd, key), renumber, renumber)
        for key in os.listxattr(fd)
        if key in (CAPABILITY, *_ACLS)
    }
