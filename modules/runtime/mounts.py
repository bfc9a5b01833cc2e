"""Runs on the managed host: what config.json mounts into the container's root.

Targets are resolved by the kernel inside the root (openat2, RESOLVE_IN_ROOT), so that no link of an
image leads out of it, and the mount is hung on the descriptor that came of it, so that no link made
meanwhile does either.
"""

from __future__ import annotations

import errno
import os
import stat

from . import mount_options
from . import syscalls as sys
from .cgroup import Cgroup
from .config import Config, RuntimeFailure
from .mount_options import Mount
from .namespaces import Namespaces

_KEPT = (
    (os.ST_RDONLY, sys.MS_RDONLY),
    (os.ST_NOSUID, sys.MS_NOSUID),
    (os.ST_NODEV, sys.MS_NODEV),
    (os.ST_NOEXEC, sys.MS_NOEXEC),
    (os.ST_NOATIME, sys.MS_NOATIME),
    (os.ST_NODIRATIME, sys.MS_NODIRATIME),
    (os.ST_RELATIME, sys.MS_RELATIME),
)
_ATTRIBUTES = (
    (sys.MS_RDONLY, sys.MOUNT_ATTR_RDONLY),
    (sys.MS_NOSUID, sys.MOUNT_ATTR_NOSUID),
    (sys.MS_NODEV, sys.MOUNT_ATTR_NODEV),
    (sys.MS_NOEXEC, sys.MOUNT_ATTR_NOEXEC),
)
_RESOLVE = sys.RESOLVE_IN_ROOT | sys.RESOLVE_NO_MAGICLINKS


def prepare(config: Config, bundle: str) -> list[Mount]:
    """Parse all mounts; a bind source that is missing is an error now, before anything is made."""
    found = []
    for entry in config.get("mounts") or ():
        mount = mount_options.parse(entry)
        if mount.bind:
            mount.source = os.path.join(bundle, mount.source)
            if not os.path.exists(mount.source):
                raise RuntimeFailure(
                    f"cannot mount {mount.source} at {mount.destination}: it does not exist",
                    hint="create it on the host, or correct the volume's source",
                    ref="mount-source-missing",
                )
        found.append(mount)
    return found


def enter(mounts: list[Mount], root: str, cgroup: Cgroup, namespaces: Namespaces) -> None:
    """Child: mount everything but cgroups, in order; `enter_cgroups` follows once it is in its own."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for mount in mounts:
            if mount.fstype not in ("cgroup", "cgroup2"):
                _mount(mount, root_fd)
            elif not namespaces.private("cgroup"):
                _host_cgroups(mount, root_fd, cgroup)
            elif cgroup.hierarchies.v1:
                _cgroups_v1(mount, root_fd, cgroup)
            else:
                mount.fstype = "cgroup2"
                _mount(mount, root_fd)
    finally:
        os.close(root_fd)


def _mount(mount: Mount, root_fd: int) -> None:
    try:
        if mount.bind:
            _bind(mount, root_fd)
        else:
            # A proc or sysfs that a link of the image sends elsewhere would leave the place unmasked.
            straight = mount.fstype in ("proc", "sysfs")
            target = target_fd(root_fd, mount.destination, folder=True, straight=straight)
            try:
                flags = mount.set_flags
                sys.mount(mount.source, f"/proc/self/fd/{target}", mount.fstype, flags, mount.data)
            finally:
                os.close(target)
            _finish(mount, root_fd)
    except OSError as error:
        raise _failure(mount, error) from error


def _failure(mount: Mount, error: OSError) -> RuntimeFailure:
    what = mount.source if mount.bind else mount.fstype
    hint = ""
    if error.errno == errno.ELOOP:
        hint = f"{mount.destination} is a link in the image; mount at where it leads to"
    return RuntimeFailure(
        f"cannot mount {what} at {mount.destination}: {error.strerror}",
        hint=hint,
        ref="mount-failed",
    )


def _bind(mount: Mount, root_fd: int) -> None:
    """Bind with its attributes set before it is visible; older kernels set them just after."""
    folder = os.path.isdir(mount.source)
    target = target_fd(root_fd, mount.destination, folder=folder)
    try:
        recursive = bool(mount.set_flags & sys.MS_REC)
        try:
            tree = sys.open_tree(
                mount.source, sys.OPEN_TREE_CLONE | (sys.AT_RECURSIVE if recursive else 0)
            )
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            _bind_old(mount, root_fd, target)
            return
        try:
            _set_attributes(mount, tree)
            for flags in mount.propagation or [sys.MS_PRIVATE | sys.MS_REC]:
                kind = flags & ~sys.MS_REC
                sys.mount_setattr(
                    "", propagation=kind, recursive=bool(flags & sys.MS_REC), dir_fd=tree
                )
            sys.move_mount(tree, target)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            _bind_old(mount, root_fd, target)
        finally:
            os.close(tree)
    finally:
        os.close(target)


def _set_attributes(mount: Mount, tree: int) -> None:
    add = sum(attribute for flag, attribute in _ATTRIBUTES if mount.set_flags & flag)
    drop = sum(attribute for flag, attribute in _ATTRIBUTES if mount.clear_flags & flag)
    # `rw` and its like undo options before them; what the source's own mount forbids stays forbidden.
    drop &= ~sum(attribute for flag, attribute in _ATTRIBUTES if _flags_of(tree) & flag)
    if add or drop:
        sys.mount_setattr("", add, drop, dir_fd=tree)
    if mount.set_recursive or mount.clear_recursive:
        sys.mount_setattr(
            "", mount.set_recursive, mount.clear_recursive, recursive=True, dir_fd=tree
        )


def _flags_of(fd: int) -> int:
    present = os.fstatvfs(fd).f_flag
    return sum(flag for bit, flag in _KEPT if present & bit)


def _bind_old(mount: Mount, root_fd: int, target: int) -> None:
    """The way before Linux 5.12: bind, find it again, remount. What is found must be the source."""
    if mount.set_recursive or mount.clear_recursive:
        raise RuntimeFailure(
            f"cannot mount at {mount.destination}: recursive options need Linux 5.12",
            ref="old-kernel",
        )
    sys.mount(
        mount.source,
        f"/proc/self/fd/{target}",
        None,
        sys.MS_BIND | mount.set_flags & sys.MS_REC,
    )
    on_top = sys.openat2(root_fd, mount.destination, os.O_PATH, 0, _RESOLVE)
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


def _finish(mount: Mount, root_fd: int) -> None:
    if not mount.propagation and not mount.set_recursive:
        return
    on_top = sys.openat2(root_fd, mount.destination, os.O_PATH, 0, _RESOLVE)
    try:
        for propagation in mount.propagation:
            sys.mount(None, f"/proc/self/fd/{on_top}", None, propagation)
        if mount.set_recursive:
            sys.mount_setattr("", mount.set_recursive, recursive=True, dir_fd=on_top)
    finally:
        os.close(on_top)


def _cgroups_v1(mount: Mount, root_fd: int, cgroup: Cgroup) -> None:
    """A tmpfs with a folder per hierarchy; the cgroup namespace makes the container's own its root."""
    readonly = mount.set_flags & sys.MS_RDONLY
    base = Mount(mount.destination, "tmpfs", "tmpfs")
    base.set_flags, base.data = mount.set_flags & ~sys.MS_RDONLY, "mode=755"
    _mount(base, root_fd)
    names: dict[str, list[str]] = {}
    for controller, root in cgroup.hierarchies.v1.items():
        names.setdefault(root, []).append(controller)
    if cgroup.hierarchies.v2:
        names[cgroup.hierarchies.v2] = []
    for root, controllers in names.items():
        one = Mount(os.path.join(mount.destination, os.path.basename(root)), "cgroup", "cgroup")
        one.set_flags = mount.set_flags
        one.data = ",".join(controllers)
        if not controllers:
            one.fstype = "cgroup2"
        elif controllers[0].startswith("name="):
            one.data = f"none,{controllers[0]}"
        _mount(one, root_fd)
    for root, controllers in names.items():
        for controller in controllers:
            link = os.path.join(mount.destination, controller)
            if len(controllers) > 1 and controller != os.path.basename(root):
                parent, name = parent_fd(root_fd, link)
                try:
                    os.symlink(os.path.basename(root), name, dir_fd=parent)
                finally:
                    os.close(parent)
    if readonly:
        flags = sys.MS_REMOUNT | sys.MS_BIND | base.set_flags | readonly
        on_top = sys.openat2(root_fd, mount.destination, os.O_PATH, 0, _RESOLVE)
        try:
            sys.mount(None, f"/proc/self/fd/{on_top}", None, flags)
        finally:
            os.close(on_top)


def _host_cgroups(mount: Mount, root_fd: int, cgroup: Cgroup) -> None:
    """The container shares the host's cgroup namespace: it sees the host's tree, read-only or not."""
    roots = [*dict.fromkeys(cgroup.hierarchies.v1.values()), cgroup.hierarchies.v2]
    top = os.path.commonpath([root for root in roots if root])
    bound = Mount(mount.destination, "bind", top)
    bound.set_flags = mount.set_flags | sys.MS_BIND | sys.MS_REC
    if mount.set_flags & sys.MS_RDONLY:
        bound.set_recursive = sys.MOUNT_ATTR_RDONLY
    _mount(bound, root_fd)


def parent_fd(root_fd: int, path: str) -> tuple[int, str]:
    """A descriptor of the path's parent folder inside the root (made if missing), and the last name."""
    parent, name = os.path.split(os.path.normpath("/" + path).lstrip("/"))
    return target_fd(root_fd, parent, folder=True), name


def target_fd(root_fd: int, path: str, *, folder: bool, straight: bool = False) -> int:
    """A descriptor of the path inside the root; folders, and at its end a file, are made if missing.

    Raises OSError ELOOP where `straight` is asked for and a link is on the way.
    """
    resolve = _RESOLVE | (sys.RESOLVE_NO_SYMLINKS if straight else 0)
    relative = os.path.normpath("/" + path).lstrip("/") or "."
    try:
        return sys.openat2(root_fd, relative, os.O_PATH, 0, resolve)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    parts = relative.split("/")
    for count in range(1, len(parts) + 1):
        here = "/".join(parts[:count])
        try:
            os.close(sys.openat2(root_fd, here, os.O_PATH, 0, resolve))
            continue
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        parent = sys.openat2(
            root_fd, "/".join(parts[: count - 1]) or ".", os.O_PATH | os.O_DIRECTORY, 0, resolve
        )
        try:
            if folder or count < len(parts):
                os.mkdir(parts[count - 1], 0o755, dir_fd=parent)
            else:
                os.mknod(parts[count - 1], stat.S_IFREG | 0o644, dir_fd=parent)
        except FileExistsError:
            pass  # a link that leads nowhere: opening it below says so
        finally:
            os.close(parent)
    return sys.openat2(root_fd, relative, os.O_PATH, 0, resolve)
