"""Runs on the managed host: mount options as config.json spells them, parsed into what the kernel takes.

Source: OCI runtime-spec 1.2, config.md (Linux mount options); mount(8), mount_setattr(2).
"""

from __future__ import annotations

import errno

from . import idmap
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
    "iversion": (sys.MS_I_VERSION, True),
    "lazytime": (sys.MS_LAZYTIME, True),
    "loud": (sys.MS_SILENT, False),
    "mand": (sys.MS_MANDLOCK, True),
    "noatime": (sys.MS_NOATIME, True),
    "nodev": (sys.MS_NODEV, True),
    "nodiratime": (sys.MS_NODIRATIME, True),
    "noexec": (sys.MS_NOEXEC, True),
    "noiversion": (sys.MS_I_VERSION, False),
    "nolazytime": (sys.MS_LAZYTIME, False),
    "nomand": (sys.MS_MANDLOCK, False),
    "norelatime": (sys.MS_RELATIME, False),
    "nostrictatime": (sys.MS_STRICTATIME, False),
    "nosuid": (sys.MS_NOSUID, True),
    "nosymfollow": (sys.MS_NOSYMFOLLOW, True),
    "relatime": (sys.MS_RELATIME, True),
    "remount": (sys.MS_REMOUNT, True),
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
# name -> (attributes set, attributes cleared), for the mount and all below it. Access times are one
# field of three values: setting one clears the others.
RECURSIVE = {
    "rro": (sys.MOUNT_ATTR_RDONLY, 0),
    "rrw": (0, sys.MOUNT_ATTR_RDONLY),
    "rnosuid": (sys.MOUNT_ATTR_NOSUID, 0),
    "rsuid": (0, sys.MOUNT_ATTR_NOSUID),
    "rnodev": (sys.MOUNT_ATTR_NODEV, 0),
    "rdev": (0, sys.MOUNT_ATTR_NODEV),
    "rnoexec": (sys.MOUNT_ATTR_NOEXEC, 0),
    "rexec": (0, sys.MOUNT_ATTR_NOEXEC),
    "rnodiratime": (sys.MOUNT_ATTR_NODIRATIME, 0),
    "rdiratime": (0, sys.MOUNT_ATTR_NODIRATIME),
    "rnosymfollow": (sys.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "rsymfollow": (0, sys.MOUNT_ATTR_NOSYMFOLLOW),
    "rrelatime": (sys.MOUNT_ATTR_RELATIME, sys.MOUNT_ATTR__ATIME),
    "ratime": (sys.MOUNT_ATTR_RELATIME, sys.MOUNT_ATTR__ATIME),
    "rnostrictatime": (sys.MOUNT_ATTR_RELATIME, sys.MOUNT_ATTR__ATIME),
    "rnoatime": (sys.MOUNT_ATTR_NOATIME, sys.MOUNT_ATTR__ATIME),
    "rstrictatime": (sys.MOUNT_ATTR_STRICTATIME, sys.MOUNT_ATTR__ATIME),
    "rnorelatime": (sys.MOUNT_ATTR_STRICTATIME, sys.MOUNT_ATTR__ATIME),
}
# The same for one mount, from its flags.
ATTRIBUTES = (
    (sys.MS_RDONLY, sys.MOUNT_ATTR_RDONLY),
    (sys.MS_NOSUID, sys.MOUNT_ATTR_NOSUID),
    (sys.MS_NODEV, sys.MOUNT_ATTR_NODEV),
    (sys.MS_NOEXEC, sys.MOUNT_ATTR_NOEXEC),
    (sys.MS_NODIRATIME, sys.MOUNT_ATTR_NODIRATIME),
    (sys.MS_NOSYMFOLLOW, sys.MOUNT_ATTR_NOSYMFOLLOW),
)
ACCESS_TIMES = (
    (sys.MS_NOATIME, sys.MOUNT_ATTR_NOATIME),
    (sys.MS_STRICTATIME, sys.MOUNT_ATTR_STRICTATIME),
    (sys.MS_RELATIME, sys.MOUNT_ATTR_RELATIME),
)
# Ours to do; the kernel is not told.
_EXTRA = ("idmap", "ridmap", "tmpcopyup", "copy-symlink", "src-nofollow", "dest-nofollow")


class Mount:
    """One parsed mount.

    Attributes:
        set_flags, clear_flags: MS_ flags.
        propagation: one mount call each.
        set_recursive, clear_recursive: MOUNT_ATTR_ flags.
        data: what the file system itself is told.
        extra: options of `_EXTRA` that were given.
        mapping: of an idmapped mount; None with `idmap` in extra: that of the container's user namespace.
        tree: descriptor of a detached mount that takes the source's place; -1 for none.
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
        self.extra: frozenset[str] = frozenset()
        self.mapping: idmap.Mapping | None = None
        self.tree = -1

    @property
    def bind(self) -> bool:
        return bool(self.set_flags & sys.MS_BIND)

    @property
    def foreign(self) -> bool:
        """Whether the source is in another container: /proc/PID/root/PATH."""
        parts = self.source.split("/", 4)
        return len(parts) == 5 and parts[1] == "proc" and parts[2].isdigit() and parts[3] == "root"

    @property
    def remapped(self) -> bool:
        """Whether owners are shown through a mapping."""
        return "idmap" in self.extra or "ridmap" in self.extra


def known() -> list[str]:
    """Every option that is not the file system's own, sorted."""
    return sorted({*FLAGS, *PROPAGATION, *RECURSIVE, *_EXTRA, "bind", "rbind", "defaults"})


def parse(entry: dict[str, Any]) -> Mount:
    """One entry of `mounts`. An option that is none of the above belongs to the file system."""
    destination = entry.get("destination")
    if not isinstance(destination, str) or not destination or "\0" in destination:
        raise _bad("a mount has no destination", "name a path inside the container")
    # A relative one starts at the root, as the specification has it.
    mount = Mount(destination, entry.get("type") or "none", entry.get("source") or "")
    if not destination.startswith("/"):
        mount.destination = "/" + destination
    extra: set[str] = set()
    data: list[str] = []
    for option in entry.get("options") or ():
        _option(mount, str(option), extra, data)
    if mount.fstype == "bind" and not mount.bind:
        mount.set_flags |= sys.MS_BIND | sys.MS_REC
    elif mount.fstype == "none" and not mount.bind and not mount.set_flags & sys.MS_REMOUNT:
        raise _bad(f"cannot tell what to mount at {destination}", "give the mount a type")
    mount.mapping = idmap.of_mount(entry, destination)
    if mount.mapping is not None and not extra & {"idmap", "ridmap"}:
        extra.add("idmap")
    mount.extra = frozenset(extra)
    mount.data = ",".join(data)
    _check(mount)
    return mount


def _option(mount: Mount, option: str, extra: set[str], data: list[str]) -> None:
    if option in FLAGS:
        flag, wanted = FLAGS[option]
        mount.set_flags = mount.set_flags | flag if wanted else mount.set_flags & ~flag
        mount.clear_flags = mount.clear_flags & ~flag if wanted else mount.clear_flags | flag
    elif option in ("bind", "rbind"):
        mount.set_flags |= sys.MS_BIND | (sys.MS_REC if option == "rbind" else 0)
    elif option in PROPAGATION:
        mount.propagation.append(PROPAGATION[option])
    elif option in RECURSIVE:
        wanted_bits, dropped = RECURSIVE[option]
        mount.set_recursive = mount.set_recursive & ~dropped | wanted_bits
        mount.clear_recursive = mount.clear_recursive & ~wanted_bits | dropped
    elif option in _EXTRA:
        extra.add(option)
    elif option not in ("defaults", ""):
        data.append(option)


def _check(mount: Mount) -> None:
    if mount.bind and not mount.source:
        raise _bad(f"cannot bind at {mount.destination}: there is no source", "name what to bind")
    if "tmpcopyup" in mount.extra and mount.fstype != "tmpfs":
        raise _bad(
            f"cannot mount at {mount.destination}: tmpcopyup is for tmpfs, not for {mount.fstype}",
            "remove tmpcopyup, or mount a tmpfs",
        )
    if mount.remapped and not mount.bind:
        raise _bad(
            f"cannot mount at {mount.destination}: only a bind can be idmapped",
            "remove idmap and the mappings, or bind a folder",
        )


def _bad(message: str, hint: str) -> RuntimeFailure:
    if not message.startswith("cannot"):
        message = f"cannot create the container: {message}"
    return RuntimeFailure(message, hint=hint, ref="bad-mount")


def failure(mount: Mount, error: OSError) -> RuntimeFailure:
    """The kernel's no to a mount, with what it may mean."""
    what = mount.source if mount.bind else mount.fstype
    hint = ""
    if error.errno == errno.ELOOP:
        hint = f"{mount.destination} is a link in the image; mount at where it leads to"
    elif error.errno == errno.ENODEV and not mount.bind:
        hint = f"this host's kernel has no file system {what}; load it: modprobe {what}"
    elif error.errno == errno.EINVAL and mount.data and not mount.bind:
        hint = f"one of the options is none of {what}'s: {mount.data}"
    return RuntimeFailure(
        f"cannot mount {what} at {mount.destination}: {error.strerror}",
        hint=hint,
        ref="mount-failed",
    )
