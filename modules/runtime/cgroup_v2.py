"""Runs on the managed host: limits in the words of cgroup version 2."""

from __future__ import annotations

import errno
import os

from .cgroup_files import counter, write
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DELEGATED = ("cpu", "cpuset", "io", "memory", "pids")
CPU_PERIOD = 100_000


def make(root: str, path: str) -> None:
    """Make the folders; each inner one passes the controllers that it has on to those below."""
    folder = root
    for part in path.split("/"):
        _pass_down(folder)
        folder = os.path.join(folder, part)
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:
            continue


def _pass_down(folder: str) -> None:
    try:
        with open(os.path.join(folder, "cgroup.controllers"), encoding="ascii") as stream:
            offered = stream.read().split()
        with open(os.path.join(folder, "cgroup.subtree_control"), encoding="ascii") as stream:
            passed = stream.read().split()
    except FileNotFoundError:
        return
    missing = [name for name in _DELEGATED if name in offered and name not in passed]
    if not missing:
        return
    try:
        write(
            os.path.join(folder, "cgroup.subtree_control"),
            " ".join(f"+{name}" for name in missing),
        )
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise RuntimeFailure(
            f"cannot make a cgroup below {folder}: processes live in that inner node",
            hint=f"move the processes listed in {folder}/cgroup.procs into a cgroup of their own",
            ref="cgroup-busy",
        ) from error


def values(resources: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(controller, file, value) in the order in which they are written."""
    found: list[tuple[str, str, str]] = []

    def put(controller: str, file: str, value: Any) -> None:
        if value is not None:
            found.append((controller, file, "max" if value == -1 else str(value)))

    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit"), memory.get("swap")
    put("memory", "memory.max", limit)
    if swap is not None:
        # The document counts memory and swap together, version 2 counts swap alone.
        put("memory", "memory.swap.max", -1 if swap == -1 else max(0, swap - (limit or 0)))
    put("memory", "memory.low", memory.get("reservation"))
    cpu = resources.get("cpu") or {}
    if cpu.get("shares"):
        put("cpu", "cpu.weight", weight(cpu["shares"]))
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        amount = "max" if quota < 0 else str(quota)
        put("cpu", "cpu.max", f"{amount} {cpu.get('period') or CPU_PERIOD}")
    put("cpuset", "cpuset.cpus", cpu.get("cpus") or None)
    put("cpuset", "cpuset.mems", cpu.get("mems") or None)
    pids = (resources.get("pids") or {}).get("limit")
    if pids is not None:
        put("pids", "pids.max", pids if pids > 0 else -1)
    for file, value in (resources.get("unified") or {}).items():
        if "/" in file:
            raise RuntimeFailure(f"cannot set {file}: not a cgroup file", ref="bad-resource")
        put(file.partition(".")[0], file, value)
    return found


def weight(shares: int) -> int:
    """CPU shares (2 to 262144) as a weight (1 to 10000), as the specification converts."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def oom_kills(folder: str) -> int:
    """The counter of memory.events."""
    return counter(os.path.join(folder, "memory.events"))
