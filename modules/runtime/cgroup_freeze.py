"""Runs on the managed host: stops all processes of a cgroup in their tracks, and lets them go on.

Source: the kernel's freezer-subsystem.rst (version 1) and cgroup-v2.rst, Linux 5.2 (version 2).
"""

from __future__ import annotations

import os
import time

from .cgroup_files import read, read_pairs, write
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cgroup import Cgroup

_SECONDS = 10.0


def freeze(cgroup: Cgroup, seconds: float = _SECONDS) -> None:
    """Pause: returns when every process has stopped. Twice is fine.

    Raises:
        RuntimeFailure: it cannot be, or took longer than `seconds`; all go on then.
    """
    folder, v1 = _folder(cgroup)
    deadline = time.monotonic() + seconds
    pause = 0.0005
    write(os.path.join(folder, _file(v1)), "FROZEN" if v1 else "1")
    while not _is_frozen(folder, v1):
        if time.monotonic() > deadline:
            thaw(cgroup)
            raise RuntimeFailure(
                f"cannot pause: the processes of {folder} did not stop for {seconds:g} s",
                hint="a process that waits for a broken disk or NFS server cannot be paused",
                ref="not-paused",
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
        if v1:
            # One that was born while it froze may hold it up: saying it again takes that one along.
            write(os.path.join(folder, _file(v1)), "FROZEN")


def thaw(cgroup: Cgroup) -> None:
    """Resume. Twice is fine."""
    folder, v1 = _folder(cgroup)
    write(os.path.join(folder, _file(v1)), "THAWED" if v1 else "0")


def frozen(cgroup: Cgroup) -> bool:
    """Whether it is paused; False where it is not there, or nothing can be paused."""
    place = _find(cgroup)
    return place is not None and _is_frozen(*place)


def _is_frozen(folder: str, v1: bool) -> bool:
    if v1:
        return read(os.path.join(folder, "freezer.state")).strip() == "FROZEN"
    return read_pairs(os.path.join(folder, "cgroup.events")).get("frozen") == 1


def _file(v1: bool) -> str:
    return "freezer.state" if v1 else "cgroup.freeze"


def _find(cgroup: Cgroup) -> tuple[str, bool] | None:
    hierarchies = cgroup.hierarchies
    for root, v1 in ((hierarchies.v1.get("freezer"), True), (hierarchies.v2, False)):
        folder = os.path.join(root or "", cgroup.path)
        if root and os.path.exists(os.path.join(folder, _file(v1))):
            return folder, v1
    return None


def _folder(cgroup: Cgroup) -> tuple[str, bool]:
    place = _find(cgroup)
    if place is None:
        raise RuntimeFailure(
            f"cannot pause or resume: {cgroup.path} has no freezer",
            hint="see whether it runs; the host needs cgroup version 2, or the freezer controller",
            ref="no-freezer",
        )
    return place
