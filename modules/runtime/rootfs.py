"""Runs on the managed host: the container's root file system, from its layers to pivot_root.

The overlay is mounted inside the container's own mount namespace: it ends with the container, and
nothing on the host has to be unmounted, whoever was killed.
"""

from __future__ import annotations

import errno
import os

from ..contract import plainjson
from . import idmap, mount_options, mountinfo
from . import syscalls as sys
from .cgroup_files import read
from .config import OVERLAY, Config, RuntimeFailure, annotation

PIVOT, MOVE, CHROOT = "pivot", "move", "chroot"


class Rootfs:
    """Where the root is, what it is made of (`layers` empty: it is there already), and how it is shared.

    Attributes:
        shifted: the layers' owners are already those of the user namespace: a copy made for it.
        tree: descriptor of the root as a detached mount, where the forerunner has made one; else -1.
        switch: how the container gets there: PIVOT drops the host's tree; MOVE hides it, for a host
            whose root is a ramdisk; CHROOT leaves it, in a mount namespace that others use too.
    """

    def __init__(self, path: str, readonly: bool, propagation: int) -> None:
        self.path = path
        self.readonly = readonly
        self.propagation = propagation
        self.layers: list[str] = []
        self.cwd = "/"
        self.upper = ""
        self.work = ""
        self.shifted = False
        self.tree = -1
        self.switch = PIVOT


def prepare(config: Config, bundle: str) -> Rootfs:
    """Parse `root`, `linux.rootfsPropagation` and the annotation of the layers."""
    root = config.get("root") or {}
    if not root.get("path"):
        raise RuntimeFailure(
            "cannot create the container: no root.path",
            hint="name the folder of its root file system in config.json",
            ref="bundle-broken",
        )
    name = (config.get("linux") or {}).get("rootfsPropagation") or ""
    if name and name not in mount_options.PROPAGATION:
        raise RuntimeFailure(
            f"cannot use rootfsPropagation {name}",
            hint=f"it is one of {', '.join(mount_options.PROPAGATION)}",
            ref="bundle-broken",
        )
    wanted = {
        option for mount in config.get("mounts") or () for option in mount.get("options") or ()
    }
    follows = wanted & {"slave", "rslave", "shared", "rshared"}
    default = sys.MS_REC | (sys.MS_SLAVE if follows else sys.MS_PRIVATE)
    propagation = mount_options.PROPAGATION[name] | sys.MS_REC if name else default
    found = Rootfs(os.path.join(bundle, root["path"]), bool(root.get("readonly")), propagation)
    overlay = annotation(config, OVERLAY)
    if overlay:
        parts = plainjson.loads(overlay)
        found.layers, found.cwd = list(parts["lower"]), parts["cwd"]
        found.upper, found.work = parts["upper"], parts["work"]
        found.shifted = bool(parts.get("shifted"))
        os.makedirs(found.path, 0o700, exist_ok=True)
    if not os.path.isdir(found.path):
        raise RuntimeFailure(
            f"cannot create the container: its root {found.path} does not exist", ref="no-rootfs"
        )
    spaces = (config.get("linux") or {}).get("namespaces") or ()
    if any(entry.get("path") for entry in spaces if entry.get("type") == "mount"):
        found.switch = CHROOT
    return found


def enter(rootfs: Rootfs) -> None:
    """Child: cut the mount namespace off from the host's, and mount the root at its path."""
    if rootfs.switch != CHROOT:
        _cut_off(rootfs)
    if rootfs.tree >= 0:
        # Upon the host's root: a user namespace may not even look into the folder of `path`.
        top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sys.move_mount(rootfs.tree, top)
        os.close(top)
        rootfs.path = f"/proc/self/fd/{rootfs.tree}"
    elif rootfs.layers:
        _overlay(rootfs, rootfs.path)
    else:
        sys.mount(rootfs.path, rootfs.path, None, sys.MS_BIND | sys.MS_REC)
    sys.mount(None, rootfs.path, None, sys.MS_PRIVATE)


def _cut_off(rootfs: Rootfs) -> None:
    """What is mounted here is to reach the host only where the bundle wants that, and never the root."""
    if rootfs.propagation & sys.MS_UNBINDABLE:
        # Only once all is bound that is to be: see `enter_readonly`.
        sys.mount(None, "/", None, sys.MS_PRIVATE | sys.MS_REC)
        return
    sys.mount(None, "/", None, rootfs.propagation)
    if rootfs.propagation & sys.MS_SHARED:
        above = "/" if rootfs.tree >= 0 else os.path.realpath(os.path.dirname(rootfs.path))
        while not os.path.ismount(above):
            above = os.path.dirname(above)
        sys.mount(None, above, None, sys.MS_PRIVATE)


def lay(rootfs: Rootfs, userns: int) -> None:
    """Forerunner, in a mount namespace of its own and with the host's rights: make the root, detached.

    The layers belong to the host's root; an idmapped mount of each shows them as the user namespace's.
    So does one of the folder of upper and work: what the container writes lies there unshifted too, and
    stays the same image for everybody else.
    """
    if not rootfs.layers:
        rootfs.tree = sys.open_tree(rootfs.path, sys.OPEN_TREE_CLONE | sys.AT_RECURSIVE)
    elif rootfs.shifted:
        _overlay(rootfs, rootfs.path)
        rootfs.tree = sys.open_tree(rootfs.path, sys.OPEN_TREE_CLONE)
    else:
        _idmapped(rootfs, userns)


def _idmapped(rootfs: Rootfs, userns: int) -> None:
    desk = rootfs.path
    # Overlays take mounts that hang somewhere; these hang in a tmpfs that ends with this process.
    sys.mount("tmpfs", desk, "tmpfs", sys.MS_NOSUID | sys.MS_NODEV, "mode=0700")
    for number, layer in enumerate(rootfs.layers):
        _hang(os.path.join(rootfs.cwd, layer), os.path.join(desk, str(number)), userns)
    above = os.path.commonpath((rootfs.upper, rootfs.work))
    _hang(above, os.path.join(desk, "rw"), userns)
    os.mkdir(os.path.join(desk, "root"), 0o755)
    mapped = Rootfs(rootfs.path, rootfs.readonly, rootfs.propagation)
    mapped.cwd = desk
    mapped.layers = [str(number) for number in range(len(rootfs.layers))]
    mapped.upper = os.path.join("rw", os.path.relpath(rootfs.upper, above))
    mapped.work = os.path.join("rw", os.path.relpath(rootfs.work, above))
    # An overlay writes as who mounts it: nobody else could make files in the mapped upper folder.
    os.chmod(desk, 0o711)
    with idmap.AsRoot(userns):
        _overlay(mapped, os.path.join(desk, "root"))
    rootfs.tree = sys.open_tree(os.path.join(desk, "root"), sys.OPEN_TREE_CLONE)


def _hang(source: str, target: str, userns: int) -> None:
    os.mkdir(target, 0o755)
    tree = sys.open_tree(source, sys.OPEN_TREE_CLONE)
    place = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        idmap.apply(tree, userns, source)
        sys.move_mount(tree, place)
    finally:
        os.close(place)
        os.close(tree)


def _overlay(rootfs: Rootfs, target: str) -> None:
    # mount(2) takes one page of options: layers are short links, relative to their folder.
    os.chdir(rootfs.cwd)
    options = ["lowerdir=" + ":".join(_escape(layer) for layer in rootfs.layers)]
    options += [f"upperdir={_escape(rootfs.upper)}", f"workdir={_escape(rootfs.work)}"]
    options += off_switches()
    data = ",".join(options)
    if len(data) >= 4095:
        raise RuntimeFailure(
            f"cannot mount the image: its {len(rootfs.layers)} layers need more than the 4096 bytes "
            "that mount takes",
            hint="build the image with fewer layers",
            ref="too-many-layers",
        )
    try:
        sys.mount("overlay", target, "overlay", 0, data)
    except OSError as error:
        hint = ""
        if error.errno == errno.ENODEV:
            hint = "load the kernel module: modprobe overlay"
        elif error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            hint = (
                "the data folder may itself lie on an overlay: put hostctl_data_dir on a real "
                "file system such as ext4 or xfs"
            )
        raise RuntimeFailure(
            f"cannot mount the container's root: {error.strerror}", hint=hint, ref="overlay-failed"
        ) from error
    finally:
        os.chdir("/")


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def off_switches(parameters: str = "/sys/module/overlay/parameters") -> list[str]:
    """Features that a host may have on by default, and that make an upper folder useless elsewhere."""
    return [
        f"{name}=off"
        for name in ("index", "metacopy", "redirect_dir")
        if read(os.path.join(parameters, name)).startswith("Y")
    ]


def enter_pivot(rootfs: Rootfs) -> None:
    """Child, once all is mounted: make it the root and drop the host's tree."""
    if rootfs.switch != PIVOT:
        if rootfs.switch == MOVE:
            _strip(rootfs.path)
        os.chdir(rootfs.path)
        if rootfs.switch == MOVE:
            sys.mount(".", "/", None, sys.MS_MOVE)
        os.chroot(".")
        os.chdir("/")
        return
    old = os.open("/", os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.chdir(rootfs.path)
        # The old root is stacked upon the new one, so that no folder for it is needed.
        sys.pivot_root(".", ".")
        os.fchdir(old)
        sys.mount(None, ".", None, sys.MS_SLAVE | sys.MS_REC)
        sys.umount2(".", sys.MNT_DETACH)
        os.chdir("/")
    finally:
        os.close(old)


def _strip(root: str) -> None:
    """Take away the host's proc and sysfs, which would stay below the moved root.

    As long as one without masks is in its mount namespace, the kernel lets a user namespace that the
    container makes mount another one without masks.
    """
    inside = os.path.realpath(root) + "/"
    for mount in reversed(list(mountinfo.read())):
        path = mount.path
        if mount.type not in ("proc", "sysfs") or f"{path}/".startswith(inside):
            continue
        sys.mount(None, path, None, sys.MS_PRIVATE)
        try:
            sys.umount2(path, sys.MNT_DETACH)
        except OSError:  # locked by a user namespace: covered, it is in nobody's reach either
            sys.mount("tmpfs", path, "tmpfs", 0)


def enter_readonly(rootfs: Rootfs) -> None:
    """Child, after the last change below the root: devices, links and mount points are made."""
    if rootfs.readonly:
        # The root's mount may have flags that keep its files harmless: they stay.
        present = os.statvfs("/").f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
        sys.mount(None, "/", None, sys.MS_REMOUNT | sys.MS_BIND | sys.MS_RDONLY | present)
    if rootfs.propagation & (sys.MS_SHARED | sys.MS_UNBINDABLE):
        sys.mount(None, "/", None, rootfs.propagation)
