"""Runs on the managed host, in the agent: the devices that a privileged container gets, as in Docker: all.

Docker looks at /dev when the container starts; so does whoever calls this.
"""

from __future__ import annotations

import os
import stat
from typing import Any

# Folders and files of /dev that each container has of its own.
_OWN_FOLDERS = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))
_OWN_FILES = frozenset(("console", "ptmx"))
_KINDS = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}


def listing(root: str = "/dev") -> list[dict[str, Any]]:
    """`linux.devices` of all device nodes below `root`; links are followed nowhere."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _OWN_FOLDERS)
        for name in sorted(files):
            path = os.path.join(folder, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:  # unplugged meanwhile
                continue
            node = entry(path, status)
            if node is not None and name not in _OWN_FILES:
                found.append(node)
    return found


def entry(path: str, status: os.stat_result) -> dict[str, Any] | None:
    """The device as an entry of `linux.devices`, at `path` in the container; None for what is no device."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return {
        "path": path,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
