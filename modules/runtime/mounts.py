"""Runs on the managed host: what config.json mounts into the container's root.

Targets are resolved by the kernel inside the root (openat2, RESOLVE_IN_ROOT), so that no link of an
image leads out of it, and the mount is hung on the descriptor that came of it, so that no link made
meanwhile does either. A bind is made whole as a detached mount first: by the child, or by the forerunner
of a container with a user namespace, which may not do it any more (`lay`).
"""

from __future__ import annotations

import errno
import os
import stat

from . import foreign, idmap, mount_cgroups, mount_options, volumes
from . import syscalls as sys
from .cgroup import Cgroup
from .config import Config, RuntimeFailure
from .mount_options import Mount
from .namespaces import Namespaces
from .targets import RESOLVE
from .targets import parent_fd as parent_fd
from .targets import target_fd as target_fd

_KEPT = (
    (os.ST_RDONLY, sys.MS_RDONLY),
    (os.ST_NOSUID, sys.MS_NOSUID),
    (os.ST_NODEV, sys.MS_NODEV),
    (os.ST_NOEXEC, sys.MS_NOEXEC),
    (os.ST_NOATIME, sys.MS_NOATIME),
    (os.ST_NODIRATIME, sys.MS_NODIRATIME),
    (os.ST_RELATIME, sys.MS_RELATIME),
)


class Later:
    """Mounts that become read-only once all that goes below them is there."""

    def __init__(self) -> None:
        self.fds: list[int] = []


def prepare(config: Config, bundle: str) -> list[Mount]:
    """Parse all mounts; a bind source that is missing is an error now, before anything is made."""
    found = []
    for entry in config.get("mounts") or ():
        mount = mount_options.parse(entry)
        if mount.bind and not mount.set_flags & sys.MS_REMOUNT:
            mount.source = os.path.join(bundle, mount.source)
            links = "copy-symlink" in mount.extra or "src-nofollow" in mount.extra
            if not (os.path.lexists if links else os.path.exists)(mount.source):
                raise RuntimeFailure(
                    f"cannot mount {mount.source} at {mount.destination}: it does not exist",
                    hint="create it on the host, or correct the volume's source",
                    ref="mount-source-missing",
                )
        found.append(mount)
    return found


def check(mounts: list[Mount], namespaces: Namespaces) -> None:
    """Refuse an idmapped mount that says neither how nor has a user namespace to take it from."""
    for mount in mounts:
        if mount.remapped and mount.mapping is None and not namespaces.private("user"):
            raise RuntimeFailure(
                f"cannot mount at {mount.destination}: idmap without a mapping",
                hint="give the mount uidMappings and gidMappings, or the container a user namespace",
                ref="bad-mount",
            )


def make(mounts: list[Mount]) -> dict[object, int]:
    """Parent: a user namespace for each mapping that mounts have of their own; to be closed by it."""
    made: dict[object, int] = {}
    try:
        for mount in mounts:
            if mount.mapping is not None and mount.mapping.key() not in made:
                made[mount.mapping.key()] = idmap.make(mount.mapping)
    except BaseException:
        for fd in made.values():
            os.close(fd)
        raise
    return made


def lay(mounts: list[Mount], users: dict[object, int], userns: int, place: str) -> None:
    """Forerunner, with the host's rights: make all binds as detached mounts.

    Args:
        users: of `make`.
        userns: the container's user namespace.
        place: where older kernels make them, in a mount namespace that ends with the forerunner.
    """
    desk = -1
    for number, mount in enumerate(mounts):
        if mount.bind and mount.tree < 0 and "copy-symlink" not in mount.extra:
            try:
                try:
                    mount.tree = _tree(mount, users, userns)
                except OSError as error:
                    if error.errno != errno.ENOSYS:
                        raise
                    desk = _desk(place) if desk < 0 else desk
                    _bind_old(mount, desk, str(number))
                    flags = sys.OPEN_TREE_CLONE | sys.AT_RECURSIVE
                    mount.tree = sys.open_tree(os.path.join(place, str(number)), flags)
            except OSError as error:
                raise mount_options.failure(mount, error) from error
            # They are so already, and the child may not change them.
            mount.set_recursive = mount.clear_recursive = 0
            mount.extra = mount.extra | {"laid"}


def _desk(place: str) -> int:
    sys.mount("tmpfs", place, "tmpfs", sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC, "mode=0700")
    return os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def enter(
    mounts: list[Mount],
    root: str,
    cgroup: Cgroup | None,
    namespaces: Namespaces,
    users: dict[object, int],
) -> Later:
    """Child, in its own cgroup: mount everything, in order; `enter_readonly` completes it."""
    later = Later()
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for mount in mounts:
            own = namespaces.private("cgroup")
            first, *rest = mount_cgroups.expand(mount, cgroup, own=own) or [mount]
            _mount(first, root_fd, namespaces, users, later)
            if rest and not rest[0].bind:
                rest = mount_cgroups.fill(first, rest, root_fd)
            for part in rest:
                _mount(part, root_fd, namespaces, users, later)
    finally:
        os.close(root_fd)
    return later


def enter_readonly(later: Later) -> None:
    """Child, once devices and mount points are made: the tmpfs that are to be read-only become so."""
    for fd in later.fds:
        _remount(f"/proc/self/fd/{fd}", sys.MS_RDONLY)
        os.close(fd)


def _remount(path: str, flags: int) -> None:
    """Add flags to a mount; those that it has stay: a user namespace may not take them away."""
    kept = _flags_of(path)
    sys.mount(None, path, None, sys.MS_BIND | sys.MS_REMOUNT | kept | flags)


def _mount(
    mount: Mount,
    root_fd: int,
    namespaces: Namespaces,
    users: dict[object, int],
    later: Later | None = None,
) -> None:
    try:
        if mount.set_flags & sys.MS_REMOUNT:
            _change(mount, root_fd)
        elif mount.bind and "symlink" in mount.extra:
            _link(mount.source, mount, root_fd)
        elif mount.bind and "copy-symlink" in mount.extra and os.path.islink(mount.source):
            # The link itself, not what it leads to on the host.
            _link(os.readlink(mount.source), mount, root_fd)
        elif mount.bind:
            _bind(mount, root_fd, users)
        else:
            _file_system(mount, root_fd, namespaces, later)
    except OSError as error:
        raise mount_options.failure(mount, error) from error


def _file_system(mount: Mount, root_fd: int, namespaces: Namespaces, later: Later | None) -> None:
    # A proc or sysfs that a link of the image sends elsewhere would leave the place unmasked.
    straight = mount.fstype in ("proc", "sysfs")
    follow = "dest-nofollow" not in mount.extra
    target = target_fd(root_fd, mount.destination, folder=True, straight=straight, follow=follow)
    inside = -1
    try:
        data, flags = mount.data, mount.set_flags
        if mount.fstype == "devpts" and namespaces.private("user"):
            data = _without_strangers(data)
        deferred = mount.fstype == "tmpfs" and later is not None and bool(flags & sys.MS_RDONLY)
        if deferred:
            flags &= ~sys.MS_RDONLY
        if "tmpcopyup" in mount.extra:
            inside = os.open(f"/proc/self/fd/{target}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        source = mount.source or mount.fstype
        try:
            sys.mount(source, f"/proc/self/fd/{target}", mount.fstype, flags, data)
        except PermissionError:
            # A sysfs shows a network namespace, which is not the user namespace's own here.
            if mount.fstype != "sysfs" or not namespaces.private("user"):
                raise
            _host_sysfs(mount, target)
        if inside >= 0 or deferred or mount.propagation or mount.set_recursive:
            _finish(mount, root_fd, inside, later if deferred else None)
    finally:
        os.close(target)
        if inside >= 0:
            os.close(inside)


def _without_strangers(data: str) -> str:
    """A group that the user namespace does not know cannot own its terminals: they stay root's."""
    # As bytes: in here Python can load no codec that it has not loaded before.
    with open("/proc/self/gid_map", "rb") as stream:
        ranges = [line.split() for line in stream]
    kept = []
    for item in data.split(","):
        name, _, value = item.partition("=")
        if name == "gid" and value.isdigit():
            known = (int(first) <= int(value) < int(first) + int(size) for first, _, size in ranges)
            if not any(known):
                continue
        kept.append(item)
    return ",".join(kept)


def _host_sysfs(mount: Mount, target: int) -> None:
    tree = sys.open_tree("/sys", sys.OPEN_TREE_CLONE | sys.AT_RECURSIVE)
    try:
        wanted = mount.set_flags | sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC
        add = sum(attribute for flag, attribute in mount_options.ATTRIBUTES if wanted & flag)
        sys.mount_setattr("", add, recursive=True, dir_fd=tree, propagation=sys.MS_PRIVATE)
        sys.move_mount(tree, target)
    finally:
        os.close(tree)


def _finish(mount: Mount, root_fd: int, inside: int, later: Later | None) -> None:
    """What can be done only to a mount that is in its place."""
    on_top = sys.openat2(root_fd, mount.destination, os.O_PATH, 0, RESOLVE)
    path = f"/proc/self/fd/{on_top}"
    try:
        if inside >= 0:
            volumes.copy_folder(f"/proc/self/fd/{inside}", path)
        for propagation in mount.propagation:
            sys.mount(None, path, None, propagation)
        if mount.set_recursive or mount.clear_recursive:
            sys.mount_setattr(
                "", mount.set_recursive, mount.clear_recursive, recursive=True, dir_fd=on_top
            )
        if later is not None:
            later.fds.append(os.dup(on_top))
    finally:
        os.close(on_top)


def _change(mount: Mount, root_fd: int) -> None:
    """`remount`: other flags, or other options of the file system, for what is mounted there already."""
    on_top = sys.openat2(root_fd, mount.destination, os.O_PATH, 0, RESOLVE)
    try:
        path = f"/proc/self/fd/{on_top}"
        kept = _flags_of(path) & ~mount.clear_flags
        flags = mount.set_flags & ~sys.MS_REC | kept
        sys.mount(None, path, None, flags, "" if mount.bind else mount.data)
    finally:
        os.close(on_top)


def _link(wanted: str, mount: Mount, root_fd: int) -> None:
    parent, name = parent_fd(root_fd, mount.destination)
    try:
        os.symlink(wanted, name, dir_fd=parent)
    except FileExistsError:
        if not _leads_to(wanted, name, parent):
            raise
    finally:
        os.close(parent)


def _leads_to(wanted: str, name: str, parent: int) -> bool:
    try:
        return os.readlink(name, dir_fd=parent) == wanted
    except OSError:
        return False


def _bind(mount: Mount, root_fd: int, users: dict[object, int]) -> None:
    """Bind with its attributes set before it is visible; older kernels set them just after."""
    try:
        tree = mount.tree if "laid" in mount.extra else _tree(mount, users, users.get("user", -1))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        _bind_old(mount, root_fd, mount.destination)
        return
    try:
        folder = stat.S_ISDIR(os.fstat(tree).st_mode)
        follow = "dest-nofollow" not in mount.extra
        target = target_fd(root_fd, mount.destination, folder=folder, follow=follow)
        try:
            sys.move_mount(tree, target)
        finally:
            os.close(target)
    finally:
        os.close(tree)


def _tree(mount: Mount, users: dict[object, int], userns: int) -> int:
    """The source as a detached mount, with all that is wanted of it. It takes over `mount.tree`."""
    tree = mount.tree
    if tree < 0:
        flags = sys.OPEN_TREE_CLONE | (sys.AT_RECURSIVE if mount.set_flags & sys.MS_REC else 0)
        if "src-nofollow" in mount.extra:
            flags |= sys.AT_SYMLINK_NOFOLLOW
        tree = (
            foreign.open_tree(mount.source, flags)
            if mount.foreign
            else sys.open_tree(mount.source, flags)
        )
    try:
        if mount.remapped:
            owner = userns if mount.mapping is None else users[mount.mapping.key()]
            idmap.apply(tree, owner, mount.source, recursive="ridmap" in mount.extra)
        kinds = mount.propagation or [sys.MS_PRIVATE | sys.MS_REC]
        if not mount.set_flags & sys.MS_REC:
            # It is one mount: all at once.
            first, *kinds = kinds
            _set_attributes(mount, tree, first & ~sys.MS_REC)
        else:
            _set_attributes(mount, tree)
        for flags in kinds:
            kind = flags & ~sys.MS_REC
            sys.mount_setattr("", propagation=kind, recursive=bool(flags & sys.MS_REC), dir_fd=tree)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _set_attributes(mount: Mount, tree: int, propagation: int = 0) -> None:
    add = sum(bit for flag, bit in mount_options.ATTRIBUTES if mount.set_flags & flag)
    drop = sum(bit for flag, bit in mount_options.ATTRIBUTES if mount.clear_flags & flag)
    for flag, bit in mount_options.ACCESS_TIMES:
        if mount.set_flags & flag:
            add, drop = add & ~sys.MOUNT_ATTR__ATIME | bit, drop | sys.MOUNT_ATTR__ATIME
            break
    # `rw` and its like undo options before them; what the source's own mount forbids stays forbidden.
    present = _flags_of(tree) if drop else 0
    drop &= ~sum(bit for flag, bit in mount_options.ATTRIBUTES if present & flag)
    if add or drop or propagation:
        sys.mount_setattr("", add, drop, propagation=propagation, dir_fd=tree)
    if mount.set_recursive or mount.clear_recursive:
        sys.mount_setattr(
            "", mount.set_recursive, mount.clear_recursive, recursive=True, dir_fd=tree
        )


def _flags_of(place: int | str) -> int:
    present = os.statvfs(place).f_flag
    return sum(flag for bit, flag in _KEPT if present & bit)


def _bind_old(mount: Mount, root_fd: int, destination: str) -> None:
    """The way before Linux 5.12: bind, find it again, remount. What is found must be the source."""
    if mount.set_recursive or mount.clear_recursive or mount.remapped:
        raise RuntimeFailure(
            f"cannot mount at {mount.destination}: recursive options and idmap need Linux 5.12",
            ref="old-kernel",
        )
    follow = "dest-nofollow" not in mount.extra
    folder = os.path.isdir(mount.source)
    target = target_fd(root_fd, destination, folder=folder, follow=follow)
    try:
        flags = sys.MS_BIND | mount.set_flags & sys.MS_REC
        sys.mount(mount.source, f"/proc/self/fd/{target}", None, flags)
    finally:
        os.close(target)
    on_top = sys.openat2(root_fd, destination, os.O_PATH, 0, RESOLVE)
    try:
        if not os.path.samestat(os.fstat(on_top), os.stat(mount.source)):
            raise RuntimeFailure(
                f"cannot mount at {mount.destination}: the path changed meanwhile", ref="mount-race"
            )
        path = f"/proc/self/fd/{on_top}"
        kept = _flags_of(on_top)
        flags = (mount.set_flags | kept) & ~(sys.MS_BIND | sys.MS_REC)
        if flags != kept:
            sys.mount(None, path, None, sys.MS_BIND | sys.MS_REMOUNT | flags)
        for propagation in mount.propagation or [sys.MS_PRIVATE | sys.MS_REC]:
            sys.mount(None, path, None, propagation)
    finally:
        os.close(on_top)
