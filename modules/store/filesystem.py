"""Runs on the managed host, in the agent: whether the data folder's file system can hold images and containers."""

from __future__ import annotations

import functools
import os

from ..agent.host import Paths
from ..contract.errors import Impossible
from ..runtime import mountinfo

# What overlayfs refuses as its upper layer (Documentation/filesystems/overlayfs.rst): no whiteouts, no
# trusted xattrs, or names that come and go behind its back.
_NO_UPPER = ("overlay", "nfs", "nfs4", "cifs", "vfat", "exfat", "9p")


def check_data_folder(paths: Paths) -> None:
    """Said before anything is pulled or made. Raises Impossible."""
    kind = _type_of(paths.data)
    if kind in _NO_UPPER:
        raise Impossible(
            f"cannot keep images and containers in {paths.data}: it lies on {kind}, where the kernel "
            "mounts no container's root",
            hint="set hostctl_data_dir to a folder on a disk's own file system, such as ext4 or xfs",
            ref="data-filesystem",
        )


@functools.cache
def _type_of(folder: str) -> str:
    """The type of the file system that the folder lies on, or will: each container of a run asks."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = (mount.type for mount in mountinfo.read() if mount.device == number)
    return next(kinds, "")  # btrfs gives each subvolume a number of its own
