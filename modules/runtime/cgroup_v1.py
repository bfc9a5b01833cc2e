"""Runs on the managed host: limits in the words of cgroup version 1.

Source: OCI runtime-spec 1.2 (config-linux.md, control groups), the kernel's cgroup-v1 documentation.
"""

from __future__ import annotations

import os

from .cgroup_files import counter, read
from .cgroup_files import write as _write
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONTROLLERS = frozenset(
    (
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    )
)
_THROTTLE = (
    ("throttleReadBpsDevice", "throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "throttle.write_iops_device"),
)


def make(root: str, path: str) -> bool:
    """Make the folders; whether the last one was there already."""
    folder = os.path.join(root, path)
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        return True
    except FileNotFoundError:
        if not os.path.dirname(path):
            raise
        # Mostly only the last one is missing.
        make(root, os.path.dirname(path))
        return make(root, path)
    return False


def inherit_cpuset(root: str, path: str) -> None:
    """A cpuset takes no process before it has CPUs and memory nodes: what is empty is as it is above.

    There it may have been left empty too.
    """
    folder, above = os.path.join(root, path), os.path.dirname(path)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if read(os.path.join(folder, name)).strip():
            continue
        inherited = read(os.path.join(root, above, name)).strip()
        if not inherited and above:
            inherit_cpuset(root, above)
            inherited = read(os.path.join(root, above, name)).strip()
        _write(os.path.join(folder, name), inherited)


def values(resources: dict[str, Any], *, fresh: bool = False) -> list[tuple[str, str, str]]:
    """(controller, file, value) in the order in which they are written.

    Args:
        fresh: the cgroup has just been made: what the kernel has set by itself is left out.
    """
    found: list[tuple[str, str, str]] = []

    def put(controller: str, file: str, value: Any) -> None:
        if value is not None:
            found.append((controller, f"{controller}.{file}", str(value)))

    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit") or None, memory.get("swap") or None
    put("memory", "limit_in_bytes", limit)
    # No limit of memory alone would still be one while the limit with swap stays.
    put("memory", "memsw.limit_in_bytes", -1 if limit == -1 and swap is None else swap)
    put("memory", "soft_limit_in_bytes", memory.get("reservation") or None)
    put("memory", "kmem.limit_in_bytes", memory.get("kernel") or None)
    put("memory", "kmem.tcp.limit_in_bytes", memory.get("kernelTCP") or None)
    swappiness = memory.get("swappiness")
    if swappiness is not None and not 0 <= swappiness <= 100:
        raise RuntimeFailure(
            f"cannot set swappiness to {swappiness}: it is 0 to 100", ref="bad-resource"
        )
    put("memory", "swappiness", swappiness)
    if memory.get("useHierarchy") is not None:
        put("memory", "use_hierarchy", int(memory["useHierarchy"]))
    if memory.get("disableOOMKiller") or (memory.get("disableOOMKiller") is False and not fresh):
        put("memory", "oom_control", int(memory["disableOOMKiller"]))
    cpu = resources.get("cpu") or {}
    put("cpu", "shares", cpu.get("shares") or None)
    put("cpu", "cfs_period_us", cpu.get("period") or None)
    put("cpu", "cfs_quota_us", cpu.get("quota") or None)
    put("cpu", "cfs_burst_us", cpu.get("burst"))
    put("cpu", "rt_period_us", cpu.get("realtimePeriod") or None)
    put("cpu", "rt_runtime_us", cpu.get("realtimeRuntime") or None)
    put("cpu", "idle", cpu.get("idle"))
    put("cpuset", "cpus", cpu.get("cpus") or None)
    put("cpuset", "mems", cpu.get("mems") or None)
    pids = (resources.get("pids") or {}).get("limit")
    if pids is not None and not (fresh and pids <= 0):
        put("pids", "max", pids if pids > 0 else "max")
    if resources.get("blockIO"):
        found += _block_io(resources["blockIO"])
    for entry in resources.get("hugepageLimits") or ():
        for kind in ("", ".rsvd"):
            put("hugetlb", f"{entry['pageSize']}{kind}.limit_in_bytes", entry["limit"])
    network = resources.get("network") or {}
    put("net_cls", "classid", network.get("classID") or None)
    for entry in network.get("priorities") or ():
        put("net_prio", "ifpriomap", f"{entry['name']} {entry['priority']}")
    found += rdma(resources)
    return found


def _block_io(block: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = []
    for key, file in (("weight", "weight"), ("leafWeight", "leaf_weight")):
        if block.get(key):
            found.append((file, str(block[key])))
    for entry in block.get("weightDevice") or ():
        for key, file in (("weight", "weight_device"), ("leafWeight", "leaf_weight_device")):
            if entry.get(key):
                found.append((file, f"{entry['major']}:{entry['minor']} {entry[key]}"))
    for key, file in _THROTTLE:
        found += [
            (file, f"{entry['major']}:{entry['minor']} {entry['rate']}")
            for entry in block.get(key) or ()
        ]
    return [("blkio", f"blkio.{file}", value) for file, value in found]


def rdma(resources: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The limits of RDMA devices: one file, alike in both versions."""
    found = []
    for name, entry in (resources.get("rdma") or {}).items():
        words = [name]
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if entry.get(key) is not None:
                words.append(f"{word}={entry[key]}")
        found.append(("rdma", "rdma.max", " ".join(words)))
    return found


def oom_kills(folder: str) -> int:
    """The counter of memory.oom_control (Linux 4.13), else 0."""
    return counter(os.path.join(folder, "memory.oom_control"))
