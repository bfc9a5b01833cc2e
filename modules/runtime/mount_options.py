"""Runs on the managed host: mount options as config.json spells them, parsed into what the kernel takes."""

from __future__ import annotations

from . import syscalls as sys
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# name -> (flag, whether it is set or cleared)
FLAGS = {
    "async": (sys.MS_SYNCHRONOUS, False),
    "atime": (sys.MS_NOATIME, False),
    "dev": (sys.MS_NODEV, False),
    "diratime": (sys.MS_NODIRATIME, False),
    "dirsync": (sys.MS_DIRSYNC, True),
    "exec": (sys.MS_NOEXEC, False),
    "loud": (sys.MS_SILENT, False),
    "mand": (sys.MS_MANDLOCK, True),
    "noatime": (sys.MS_NOATIME, True),
    "nodev": (sys.MS_NODEV, True),
    "nodiratime": (sys.MS_NODIRATIME, True),
    "noexec": (sys.MS_NOEXEC, True),
    "nomand": (sys.MS_MANDLOCK, False),
    "norelatime": (sys.MS_RELATIME, False),
    "nostrictatime": (sys.MS_STRICTATIME, False),
    "nosuid": (sys.MS_NOSUID, True),
    "nosymfollow": (sys.MS_NOSYMFOLLOW, True),
    "relatime": (sys.MS_RELATIME, True),
    "ro": (sys.MS_RDONLY, True),
    "rw": (sys.MS_RDONLY, False),
    "silent": (sys.MS_SILENT, True),
    "strictatime": (sys.MS_STRICTATIME, True),
    "suid": (sys.MS_NOSUID, False),
    "symfollow": (sys.MS_NOSYMFOLLOW, False),
    "sync": (sys.MS_SYNCHRONOUS, True),
}
PROPAGATION = {
    "private": sys.MS_PRIVATE,
    "rprivate": sys.MS_PRIVATE | sys.MS_REC,
    "shared": sys.MS_SHARED,
    "rshared": sys.MS_SHARED | sys.MS_REC,
    "slave": sys.MS_SLAVE,
    "rslave": sys.MS_SLAVE | sys.MS_REC,
    "unbindable": sys.MS_UNBINDABLE,
    "runbindable": sys.MS_UNBINDABLE | sys.MS_REC,
}
# name -> (attribute, whether it is set or cleared), for the mount and all below it
RECURSIVE = {
    "rro": (sys.MOUNT_ATTR_RDONLY, True),
    "rrw": (sys.MOUNT_ATTR_RDONLY, False),
    "rnosuid": (sys.MOUNT_ATTR_NOSUID, True),
    "rsuid": (sys.MOUNT_ATTR_NOSUID, False),
    "rnodev": (sys.MOUNT_ATTR_NODEV, True),
    "rdev": (sys.MOUNT_ATTR_NODEV, False),
    "rnoexec": (sys.MOUNT_ATTR_NOEXEC, True),
    "rexec": (sys.MOUNT_ATTR_NOEXEC, False),
}
_UNSUPPORTED = frozenset(("tmpcopyup", "idmap", "ridmap", "copy-symlink", "dest-nofollow"))


class Mount:
    """One parsed mount.

    Attributes:
        set_flags, clear_flags: MS_ flags.
        propagation: one mount call each.
        set_recursive, clear_recursive: MOUNT_ATTR_ flags.
        data: what the file system itself is told.
    """

    def __init__(self, destination: str, fstype: str, source: str) -> None:
        self.destination = destination
        self.fstype = fstype
        self.source = source
        self.set_flags = 0
        self.clear_flags = 0
        self.propagation: list[int] = []
        self.set_recursive = 0
        self.clear_recursive = 0
        self.data = ""

    @property
    def bind(self) -> bool:
        return bool(self.set_flags & sys.MS_BIND)


def parse(entry: dict[str, Any]) -> Mount:
    """One entry of `mounts`. An option that is none of the above belongs to the file system."""
    mount = Mount(entry["destination"], entry.get("type") or "none", entry.get("source") or "none")
    if not mount.destination.startswith("/"):
        raise RuntimeFailure(
            f"cannot mount at {mount.destination!r}: not an absolute path", ref="bad-mount"
        )
    data = []
    for option in entry.get("options") or ():
        name = option.partition("=")[0]
        if option in FLAGS:
            flag, wanted = FLAGS[option]
            mount.set_flags = mount.set_flags | flag if wanted else mount.set_flags & ~flag
            mount.clear_flags = mount.clear_flags & ~flag if wanted else mount.clear_flags | flag
        elif option in ("bind", "rbind"):
            mount.set_flags |= sys.MS_BIND | (sys.MS_REC if option == "rbind" else 0)
        elif option in PROPAGATION:
            mount.propagation.append(PROPAGATION[option])
        elif option in RECURSIVE:
            attribute, wanted = RECURSIVE[option]
            if wanted:
                mount.set_recursive |= attribute
            else:
                mount.clear_recursive |= attribute
        elif name in _UNSUPPORTED or entry.get("uidMappings"):
            raise RuntimeFailure(
                f"cannot mount at {mount.destination}: option {name} is not supported yet",
                ref="not-supported",
            )
        elif option not in ("defaults", "remount", ""):
            data.append(option)
    if mount.fstype == "bind" and not mount.bind:
        mount.set_flags |= sys.MS_BIND | sys.MS_REC
    mount.data = ",".join(data)
    return mount
