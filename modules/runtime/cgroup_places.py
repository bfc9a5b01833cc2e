"""Runs on the managed host: where cgroups are mounted, and which are hostctl's: paths from each hierarchy's root."""

from __future__ import annotations

import os
import zlib

from ..agent.paths import RUN_DIR
from . import cgroup_v1, mountinfo
from .reading import content

DELEGATED = "cgroup"
"""In the run folder: the path of the subtree that systemd has delegated to us."""
SLICE = "system.slice"


class Hierarchies:
    """Where cgroups are mounted: version 1 controllers (`memory`, `name=systemd`) and version 2."""

    def __init__(self, v1: dict[str, str], v2: str) -> None:
        self.v1 = v1
        self.v2 = v2


def detect(file: str = "/proc/self/mountinfo") -> Hierarchies:
    """Read the mounted hierarchies; the first mount of each counts."""
    v1: dict[str, str] = {}
    v2 = ""
    for mount in mountinfo.read(file):
        if mount.type == "cgroup2":
            v2 = v2 or mount.path
        elif mount.type == "cgroup":
            for name in mount.options:
                if name in cgroup_v1.CONTROLLERS or name.startswith("name="):
                    v1.setdefault(name, mount.path)
    return Hierarchies(v1, v2)


def base(run_dir: str) -> str:
    """The subtree of one hostctl on this host; another run folder is another hostctl.

    Where systemd has given us one, `RUN/cgroup` names it: that of `hostctl.service` (see `agent/unit.py`).
    """
    try:
        return content(os.path.join(run_dir, DELEGATED)).decode()
    except (FileNotFoundError, NotADirectoryError):
        own = instance(run_dir)
        return f"hostctl/{own}" if own else "hostctl"


def delegated(run_dir: str) -> bool:
    """Whether that subtree is a service's, whose top belongs to systemd."""
    return base(run_dir).startswith(f"{SLICE}/")


def instance(run_dir: str) -> str:
    """What tells the hostctl of this run folder from the usual one, which has nothing."""
    if run_dir == RUN_DIR:
        return ""
    # Checksums of zlib: hashlib would bring OpenSSL into every monitor's memory.
    data = run_dir.encode()
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}"


def is_ours(path: str) -> bool:
    """Whether a cgroup lies in a subtree of hostctl, whichever run folder it belongs to."""
    top, _, rest = path.partition("/")
    unit = rest.partition("/")[0]
    return top == "hostctl" or (
        top == SLICE and unit.startswith("hostctl") and unit.endswith(".service")
    )


def container_path(run_dir: str, name: str) -> str:
    """Where a container's processes live."""
    return f"{base(run_dir)}/containers/{name}"


def monitors_path(run_dir: str) -> str:
    """Where the zygote and the monitors live: never in a container's cgroup."""
    return f"{base(run_dir)}/monitors"
