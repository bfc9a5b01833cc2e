"""Runs on the managed host: the container's root file system, from its layers to pivot_root.

The overlay is mounted inside the container's own mount namespace: it ends with the container, and
nothing on the host has to be unmounted, whoever was killed.
"""

from __future__ import annotations

import errno
import json
import os

from . import mount_options
from . import syscalls as sys
from .config import OVERLAY, Config, RuntimeFailure, annotation


class Rootfs:
    """Where the root is, what it is made of (`layers` empty: it is there already), and how it is shared."""

    def __init__(self, path: str, readonly: bool, propagation: int) -> None:
        self.path = path
        self.readonly = readonly
        self.propagation = propagation
        self.layers: list[str] = []
        self.cwd = "/"
        self.upper = ""
        self.work = ""


def prepare(config: Config, bundle: str) -> Rootfs:
    """Parse `root`, `linux.rootfsPropagation` and the annotation of the layers."""
    root = config.get("root") or {}
    if not root.get("path"):
        raise RuntimeFailure("cannot create the container: no root.path", ref="bundle-broken")
    name = (config.get("linux") or {}).get("rootfsPropagation") or ""
    if name and name not in mount_options.PROPAGATION:
        raise RuntimeFailure(f"cannot use rootfsPropagation {name}", ref="bundle-broken")
    wanted = {
        option for mount in config.get("mounts") or () for option in mount.get("options") or ()
    }
    follows = wanted & {"slave", "rslave", "shared", "rshared"}
    default = sys.MS_REC | (sys.MS_SLAVE if follows else sys.MS_PRIVATE)
    propagation = mount_options.PROPAGATION[name] | sys.MS_REC if name else default
    found = Rootfs(os.path.join(bundle, root["path"]), bool(root.get("readonly")), propagation)
    overlay = annotation(config, OVERLAY)
    if overlay:
        parts = json.loads(overlay)
        found.layers, found.cwd = list(parts["lower"]), parts["cwd"]
        found.upper, found.work = parts["upper"], parts["work"]
        os.makedirs(found.path, 0o700, exist_ok=True)
    if not os.path.isdir(found.path):
        raise RuntimeFailure(
            f"cannot create the container: its root {found.path} does not exist", ref="no-rootfs"
        )
    return found


def enter(rootfs: Rootfs) -> None:
    """Child: cut the mount namespace off from the host's, and mount the root at its path."""
    sys.mount(None, "/", None, rootfs.propagation)
    if rootfs.layers:
        _overlay(rootfs)
    else:
        sys.mount(rootfs.path, rootfs.path, None, sys.MS_BIND | sys.MS_REC)
    sys.mount(None, rootfs.path, None, sys.MS_PRIVATE)


def _overlay(rootfs: Rootfs) -> None:
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
        sys.mount("overlay", rootfs.path, "overlay", 0, data)
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
    found = []
    for name in ("index", "metacopy", "redirect_dir"):
        try:
            with open(os.path.join(parameters, name), encoding="ascii") as stream:
                if stream.read(1) == "Y":
                    found.append(f"{name}=off")
        except FileNotFoundError:
            continue
    return found


def enter_pivot(rootfs: Rootfs) -> None:
    """Child, once all is mounted: make it the root and drop the host's tree."""
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


def enter_readonly(rootfs: Rootfs) -> None:
    """Child, after the last change below the root: devices, links and mount points are made."""
    if rootfs.readonly:
        sys.mount(None, "/", None, sys.MS_REMOUNT | sys.MS_BIND | sys.MS_RDONLY)
    if rootfs.propagation & (sys.MS_SHARED | sys.MS_UNBINDABLE):
        sys.mount(None, "/", None, rootfs.propagation)
