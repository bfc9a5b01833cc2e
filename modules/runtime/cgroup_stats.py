"""Runs on the managed host: what a cgroup has used, from either version, in one shape.

The shape is the `data` of runc's `events --stats`, which crun's is part of. Times are nanoseconds,
sizes bytes; "no limit" is 2**63 - 1. Version 2 counts swap alone: memory is added, as runc does.
"""

from __future__ import annotations

import os

from .cgroup_files import UNLIMITED, read, read_number, read_pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .cgroup import Cgroup

_BLKIO = (
    ("ioServiceBytesRecursive", "io_service_bytes_recursive", ("rbytes", "wbytes")),
    ("ioServicedRecursive", "io_serviced_recursive", ("rios", "wios")),
)


def read_stats(cgroup: Cgroup) -> dict[str, Any]:
    """cpu, memory (with `oomKills`), pids, blkio, hugetlb. What is not counted here is 0 or missing."""
    return {
        "cpu": {"usage": _cpu_usage(cgroup), "throttling": _throttling(cgroup)},
        "memory": {**_memory(cgroup), "oomKills": cgroup.oom_kills()},
        "pids": _pids(cgroup),
        "blkio": _blkio(cgroup),
        "hugetlb": _hugetlb(cgroup),
    }


def cpu_time(cgroup: Cgroup) -> int:
    """Nanoseconds of processor time that its processes have used; 0 where nobody counts."""
    folder, v1 = _place(cgroup, "cpuacct")
    if v1:
        return read_number(os.path.join(folder, "cpuacct.usage"))
    return read_pairs(os.path.join(folder, "cpu.stat")).get("usage_usec", 0) * 1000


def _place(cgroup: Cgroup, controller: str) -> tuple[str, bool]:
    """The folder that counts for the controller, and whether it is version 1's."""
    root = cgroup.hierarchies.v1.get(controller)
    return os.path.join(root or cgroup.hierarchies.v2, cgroup.path), root is not None


def _cpu_usage(cgroup: Cgroup) -> dict[str, Any]:
    folder, v1 = _place(cgroup, "cpuacct")
    if not v1:
        found = read_pairs(os.path.join(folder, "cpu.stat"))
        names = (("total", "usage_usec"), ("user", "user_usec"), ("kernel", "system_usec"))
        return {key: found.get(name, 0) * 1000 for key, name in names}
    names = (("total", "usage"), ("user", "usage_user"), ("kernel", "usage_sys"))
    usage: dict[str, Any] = {
        key: read_number(os.path.join(folder, f"cpuacct.{name}")) for key, name in names
    }
    per_cpu = read(os.path.join(folder, "cpuacct.usage_percpu")).split()
    return {**usage, "percpu": [int(word) for word in per_cpu]}


def _throttling(cgroup: Cgroup) -> dict[str, int]:
    folder, v1 = _place(cgroup, "cpu")
    found = read_pairs(os.path.join(folder, "cpu.stat"))
    time = found.get("throttled_time", 0) if v1 else found.get("throttled_usec", 0) * 1000
    return {
        "periods": found.get("nr_periods", 0),
        "throttledPeriods": found.get("nr_throttled", 0),
        "throttledTime": time,
    }


def _memory(cgroup: Cgroup) -> dict[str, Any]:
    folder, v1 = _place(cgroup, "memory")
    raw = read_pairs(os.path.join(folder, "memory.stat"))
    if v1:
        parts = (("usage", ""), ("swap", "memsw."), ("kernel", "kmem."), ("kernelTCP", "kmem.tcp."))
        entries = {key: _memory_v1(os.path.join(folder, f"memory.{part}")) for key, part in parts}
        return {"cache": raw.get("total_cache", raw.get("cache", 0)), **entries, "raw": raw}
    usage = _memory_v2(folder, "memory")
    swap = _memory_v2(folder, "memory.swap")
    limit = UNLIMITED if UNLIMITED in (swap["limit"], usage["limit"]) else 0
    swap["limit"] = limit or swap["limit"] + usage["limit"]
    swap["usage"] += usage["usage"]
    swap["max"] = 0  # the peaks of two things are not the peak of their sum
    events = read_pairs(os.path.join(folder, "memory.events"))
    usage["failcnt"] = events.get("max", 0)
    return {"cache": raw.get("file", 0), "usage": usage, "swap": swap, "raw": raw}


def _memory_v1(prefix: str) -> dict[str, int]:
    return {
        "limit": read_number(prefix + "limit_in_bytes"),
        "usage": read_number(prefix + "usage_in_bytes"),
        "max": read_number(prefix + "max_usage_in_bytes"),
        "failcnt": read_number(prefix + "failcnt"),
    }


def _memory_v2(folder: str, name: str) -> dict[str, int]:
    path = os.path.join(folder, name)
    return {
        "limit": read_number(path + ".max"),
        "usage": read_number(path + ".current"),
        "max": read_number(path + ".peak"),
        "failcnt": 0,
    }


def _pids(cgroup: Cgroup) -> dict[str, int]:
    folder, _ = _place(cgroup, "pids")
    limit = read_number(os.path.join(folder, "pids.max"))
    current = read_number(os.path.join(folder, "pids.current"))
    return {"current": current, "limit": 0 if limit == UNLIMITED else limit}


def _blkio(cgroup: Cgroup) -> dict[str, list[dict[str, Any]]]:
    folder, v1 = _place(cgroup, "blkio")
    if v1:
        return {key: _blkio_v1(folder, file) for key, file, _ in _BLKIO}
    lines = [line.split() for line in read(os.path.join(folder, "io.stat")).splitlines()]
    found: dict[str, list[dict[str, Any]]] = {key: [] for key, _, _ in _BLKIO}
    for device, *words in lines:
        values = dict(word.split("=", 1) for word in words if "=" in word)
        for key, _, names in _BLKIO:
            for operation, name in zip(("Read", "Write"), names):
                found[key].append(_entry(device, operation, values.get(name, "0")))
    return found


def _blkio_v1(folder: str, file: str) -> list[dict[str, Any]]:
    """BFQ counts where it schedules; what is throttled is counted for all schedulers."""
    found: list[dict[str, Any]] = []
    for prefix in ("blkio.bfq.", "blkio.throttle.", "blkio."):
        for line in read(os.path.join(folder, prefix + file)).splitlines():
            words = line.split()
            if len(words) == 3:  # the last line is the total of all devices
                found.append(_entry(*words))
        if any(entry["value"] for entry in found):
            return found
    return found


def _entry(device: str, operation: str, value: str) -> dict[str, Any]:
    major, _, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "op": operation, "value": int(value)}


def _hugetlb(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    folder, v1 = _place(cgroup, "hugetlb")
    limit = ".limit_in_bytes" if v1 else ".max"
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    sizes = [
        name[len("hugetlb.") : -len(limit)]
        for name in names
        if name.startswith("hugetlb.") and name.endswith(limit) and ".rsvd." not in name
    ]
    found = {}
    for size in sorted(sizes):
        path = os.path.join(folder, f"hugetlb.{size}")
        if v1:
            entry = {
                "usage": read_number(path + ".usage_in_bytes"),
                "max": read_number(path + ".max_usage_in_bytes"),
                "failcnt": read_number(path + ".failcnt"),
            }
        else:
            events = read_pairs(path + ".events")
            entry = {
                "usage": read_number(path + ".current"),
                "max": 0,
                "failcnt": events.get("max", 0),
            }
        found[size] = entry
    return found
