"""Runs on the managed host: a mount of type cgroup, as the mounts that it stands for.

With version 2 alone that is one file system. With version 1 it is a tmpfs with a folder per hierarchy;
the cgroup namespace makes the container's own cgroup the root of each. A container without a cgroup
namespace gets its own folder of each hierarchy, as in runc: the host's root cgroup stays out of reach.
"""

from __future__ import annotations

import os

from . import mount_options
from . import syscalls as sys
from .cgroup import Cgroup, detect
from .mount_options import Mount
from .targets import RESOLVE

_QUIET = sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC


def expand(mount: Mount, cgroup: Cgroup | None, *, own: bool) -> list[Mount] | None:
    """The mounts, in order; None where the mount is none of cgroups.

    Args:
        cgroup: the container's; None where it stays in the caller's.
        own: whether the container has a cgroup namespace.
    """
    if mount.fstype not in ("cgroup", "cgroup2") or mount.bind:
        return None
    if cgroup is None:
        cgroup = Cgroup("", detect())
    v1, v2 = cgroup.hierarchies.v1, cgroup.hierarchies.v2
    if mount.fstype == "cgroup2" or not v1:
        return [_one(mount, mount.destination, v2, [], cgroup, own)]
    base = Mount(mount.destination, "tmpfs", "tmpfs")
    base.set_flags, base.data = mount.set_flags, "mode=755"
    names: dict[str, list[str]] = {}
    for controller, root in v1.items():
        names.setdefault(root, []).append(controller)
    if v2:
        names[v2] = []
    found = [base]
    for root, controllers in names.items():
        target = os.path.join(mount.destination, os.path.basename(root))
        found.append(_one(mount, target, root, controllers, cgroup, own))
    for root, controllers in names.items():
        others = controllers if len(controllers) > 1 else []
        found += [
            _link(os.path.join(mount.destination, controller), root)
            for controller in others
            if controller != os.path.basename(root)
        ]
    return found


def fill(base: Mount, parts: list[Mount], root_fd: int) -> list[Mount]:
    """Mount file systems in folders of the empty tmpfs that has just been mounted; what else there is."""
    folder = sys.openat2(root_fd, base.destination, os.O_PATH | os.O_DIRECTORY, 0, RESOLVE)
    others = []
    try:
        for part in parts:
            if part.bind:
                others.append(part)
                continue
            name = os.path.basename(part.destination)
            try:
                os.mkdir(name, 0o755, dir_fd=folder)
                place = f"/proc/self/fd/{folder}/{name}"
                sys.mount(part.source, place, part.fstype, part.set_flags, part.data)
            except OSError as error:
                raise mount_options.failure(part, error) from error
    finally:
        os.close(folder)
    return others


def _one(
    mount: Mount, target: str, root: str, controllers: list[str], cgroup: Cgroup, own: bool
) -> Mount:
    """One hierarchy: mounted anew in a cgroup namespace, else the container's folder of it."""
    if own:
        one = Mount(target, "cgroup" if controllers else "cgroup2", "cgroup")
        one.set_flags = mount.set_flags
        one.data = ",".join(controllers)
        if controllers and controllers[0].startswith("name="):
            one.data = f"none,{controllers[0]}"
        return one
    one = Mount(target, "bind", os.path.join(root, cgroup.path))
    one.set_flags = mount.set_flags | sys.MS_BIND | sys.MS_REC | _QUIET
    if not cgroup.path:
        # Nobody made a cgroup for it: what it would see there is the host's.
        one.set_flags |= sys.MS_RDONLY
    return one


def _link(path: str, root: str) -> Mount:
    """A controller's name beside that of the folder which it shares with others."""
    one = Mount(path, "link", os.path.basename(root))
    one.set_flags = sys.MS_BIND
    one.extra = frozenset(("symlink",))
    return one
