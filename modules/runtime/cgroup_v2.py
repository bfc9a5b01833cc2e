"""Runs on the managed host: limits in the words of cgroup version 2.

config.json speaks version 1. What has a counterpart is converted as runc and crun do; what has none is
an error, never left out. Source: OCI runtime-spec 1.2 (config-linux.md), the kernel's cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os

from .cgroup_files import counter, read, read_number, write
from .cgroup_v1 import rdma
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_DELEGATED = ("cpu", "cpuset", "io", "memory", "pids")
CPU_PERIOD = 100_000
_THROTTLE = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def make(root: str, path: str, also: Iterable[str] = ()) -> bool:
    """Make the folders; each inner one passes the controllers that it has on to those below.

    Args:
        also: controllers that are wanted besides the usual ones.
    Returns:
        Whether the last one was there already.
    """
    wanted = (*_DELEGATED, *also)
    above, _, name = path.rpartition("/")
    if above and not also and not _missing(os.path.join(root, above), wanted):
        # Mostly only the last one is missing: those above were made to pass on what they had.
        try:
            return _mkdir(os.path.join(root, above, name))
        except FileNotFoundError:
            pass
    folder, there = root, False
    for part in path.split("/"):
        _pass_down(folder, wanted)
        folder = os.path.join(folder, part)
        there = _mkdir(folder)
    return there


def _mkdir(folder: str) -> bool:
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        return True
    return False


def _missing(folder: str, wanted: tuple[str, ...]) -> list[str]:
    """Controllers that the folder has and does not pass on."""
    offered = read(os.path.join(folder, "cgroup.controllers")).split()
    passed = read(os.path.join(folder, "cgroup.subtree_control")).split()
    return [name for name in wanted if name in offered and name not in passed]


def _pass_down(folder: str, wanted: tuple[str, ...]) -> None:
    missing = _missing(folder, wanted)
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
    """(controller, file, value) in the order in which they are written.

    Raises:
        RuntimeFailure: version 2 has nothing like it, or two values contradict each other.
    """
    found: list[tuple[str, str, str]] = []

    def put(controller: str, file: str, value: Any) -> None:
        if value is not None:
            found.append((controller, file, "max" if value == -1 else str(value)))

    memory = resources.get("memory") or {}
    put("memory", "memory.max", memory.get("limit") or None)
    put("memory", "memory.swap.max", _swap(memory))
    put("memory", "memory.low", memory.get("reservation") or None)
    cpu = resources.get("cpu") or {}
    if cpu.get("shares"):
        put("cpu", "cpu.weight", weight(cpu["shares"]))
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        amount = "max" if quota < 0 else str(quota)
        put("cpu", "cpu.max", f"{amount} {cpu.get('period') or CPU_PERIOD}")
    put("cpu", "cpu.max.burst", cpu.get("burst"))
    put("cpu", "cpu.idle", cpu.get("idle"))
    put("cpuset", "cpuset.cpus", cpu.get("cpus") or None)
    put("cpuset", "cpuset.mems", cpu.get("mems") or None)
    pids = (resources.get("pids") or {}).get("limit")
    if pids is not None:
        put("pids", "pids.max", pids if pids > 0 else -1)
    block = resources.get("blockIO") or {}
    put("io", "io.bfq.weight", block.get("weight") or None)
    for entry in block.get("weightDevice") or ():
        if entry.get("weight"):
            put("io", "io.bfq.weight", f"{entry['major']}:{entry['minor']} {entry['weight']}")
    for key, word in _THROTTLE:
        for entry in block.get(key) or ():
            put(
                "io", "io.max", f"{entry['major']}:{entry['minor']} {word}={entry['rate'] or 'max'}"
            )
    for entry in resources.get("hugepageLimits") or ():
        for kind in ("", ".rsvd"):
            put("hugetlb", f"hugetlb.{entry['pageSize']}{kind}.max", entry["limit"])
    return found + rdma(resources)


def inexpressible(resources: dict[str, Any]) -> list[tuple[str, str]]:
    """(controller, key of config.json) of what is asked for and has no counterpart in version 2."""
    memory = resources.get("memory") or {}
    cpu = resources.get("cpu") or {}
    block = resources.get("blockIO") or {}
    devices = block.get("weightDevice") or ()
    network = resources.get("network") or {}
    asked = (
        ("memory", "memory.kernel", (memory.get("kernel") or -1) != -1),
        ("memory", "memory.kernelTCP", (memory.get("kernelTCP") or -1) != -1),
        ("memory", "memory.swappiness", memory.get("swappiness") is not None),
        ("memory", "memory.disableOOMKiller", memory.get("disableOOMKiller")),
        # Accounting is always hierarchical there.
        ("memory", "memory.useHierarchy", memory.get("useHierarchy") is False),
        ("cpu", "cpu.realtimeRuntime", cpu.get("realtimeRuntime")),
        ("cpu", "cpu.realtimePeriod", cpu.get("realtimePeriod")),
        ("blkio", "blockIO.leafWeight", block.get("leafWeight")),
        ("blkio", "blockIO.weightDevice.leafWeight", any(e.get("leafWeight") for e in devices)),
        ("net_cls", "network.classID", network.get("classID")),
        ("net_prio", "network.priorities", network.get("priorities")),
    )
    return [(controller, key) for controller, key, value in asked if value]


def unified(resources: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(controller, file, value) of `unified`, a line a write, as the kernel takes them."""
    found = []
    for file, value in (resources.get("unified") or {}).items():
        if "/" in file or "." not in file:
            raise RuntimeFailure(f"cannot set {file}: not a cgroup file", ref="bad-resource")
        controller = file.partition(".")[0]
        found += [(controller, file, line) for line in str(value).splitlines()]
    return found


def _swap(memory: dict[str, Any]) -> int | None:
    """config.json counts memory and swap together, version 2 counts swap alone."""
    limit, swap = memory.get("limit") or None, memory.get("swap") or None
    if swap is None:
        return -1 if limit == -1 else None
    if swap == -1:
        return -1
    if limit is None or limit < 0:
        raise RuntimeFailure(
            "cannot limit memory with swap: memory alone has no limit",
            hint="set the limit of memory too; that with swap is the sum of both",
            ref="bad-resource",
        )
    if swap < limit:
        raise RuntimeFailure(
            f"cannot limit memory with swap to {swap} bytes: memory alone is allowed {limit}",
            hint="the limit with swap is the sum of both",
            ref="bad-resource",
        )
    return int(swap - limit)


def check_usage(folder: str, memory: dict[str, Any]) -> None:
    """With `checkBeforeUpdate`: refuse a limit below what is used, as version 1 does by itself.

    Version 2 would end processes until it fits.
    """
    if not memory.get("checkBeforeUpdate"):
        return
    used = read_number(os.path.join(folder, "memory.current"))
    for key in ("swap", "limit"):
        value = memory.get(key) or 0
        if 0 < value <= used:
            raise RuntimeFailure(
                f"cannot set the memory {key} to {value} bytes: {used} are in use",
                hint="choose a higher limit, or stop the container and set it then",
                ref="limit-below-usage",
            )


def weight(shares: int) -> int:
    """CPU shares (2 to 262144) as a weight (1 to 10000), as the specification converts."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def oom_kills(folder: str) -> int:
    """The counter of memory.events."""
    return counter(os.path.join(folder, "memory.events"))
