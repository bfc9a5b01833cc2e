"""Runs on the managed host: the short-lived process before a container's first, if it takes two steps.

A user namespace takes the host's rights away, and offsets of a time namespace count only for children.
So one process does first what needs the host's rights (cgroup, limits, mounts with the owners mapped),
then enters the user namespace, and has the container's first process as its own sibling. A container
without either of these namespaces never comes here: one clone is enough for it.
"""

from __future__ import annotations

import os

from . import devices, idmap, mounts, namespaces, process, rootfs, volumes
from . import syscalls as sys
from .namespaces import KINDS, Namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cgroup import Cgroup
    from .container import Plan


def step(plan: Plan, made: Cgroup | None, users: dict[object, int]) -> int:
    """Enter everything and fork: the child's pid, as the caller's parent knows it, or 0 in the child.

    Args:
        users: descriptors of user namespaces; the container's own under "user".

    The order: rights of the host first, then namespaces of the host that are joined by path (once inside
    the user namespace only those that belong to it could be), then the user namespace, then the rest.
    """
    os.umask(0)
    if made is not None:
        made.enter()
    process.enter_host(plan.process)
    spaces = plan.namespaces
    clock = -1
    if spaces.offsets:
        # What counts is who opens it.
        clock = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
    if spaces.private("user"):
        if os.geteuid() == 0:
            _lay(plan, users)
        later = _join(spaces, outside=True)
        sys.setns(users["user"], sys.CLONE_NEWUSER)
        idmap.become_root()
        for kind in later:
            sys.setns(spaces.joined[kind], KINDS[kind][0])
    else:
        _join(spaces, outside=False)
    spaces.joined.clear()
    if "time" in spaces.new:
        sys.unshare(sys.CLONE_NEWTIME)
        if clock >= 0:
            os.write(clock, spaces.offsets.encode())
            os.close(clock)
    return namespaces.clone(spaces, sibling=True)


def _lay(plan: Plan, users: dict[object, int]) -> None:
    """Make the root and the binds, which the user namespace may not, as detached mounts."""
    sys.unshare(sys.CLONE_NEWNS)
    sys.mount(None, "/", None, sys.MS_SLAVE | sys.MS_REC)
    rootfs.lay(plan.rootfs, users["user"])
    remapped = {mount.destination for mount in plan.mounts if mount.remapped}
    for fill in plan.volumes:
        fill.mapping = plan.mapping if fill.target in remapped else None
    volumes.enter(plan.volumes, f"/proc/self/fd/{plan.rootfs.tree}")
    plan.volumes = []
    mounts.lay(plan.mounts, users, users["user"], plan.rootfs.path)
    if plan.mapping is not None:
        # Last: what lies at that place is hidden from then on.
        devices.lay(plan.devices, plan.mapping, plan.rootfs.path)


def _join(spaces: Namespaces, *, outside: bool) -> list[str]:
    """Join what is joined by path, but for the user namespace; the mount namespace last.

    Returns:
        What could not be joined from outside, because this process has no rights there.
    """
    denied = []
    for kind in sorted(spaces.joined, key="mount".__eq__):
        if kind == "user":
            continue
        try:
            sys.setns(spaces.joined[kind], KINDS[kind][0])
        except PermissionError:
            if not outside:
                raise
            denied.append(kind)
    return denied
