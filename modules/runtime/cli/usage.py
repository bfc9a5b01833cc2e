"""Runs on the managed host: what a cgroup uses, in the words of `runc events --stats`."""

from __future__ import annotations

import os

from ..cgroup import Cgroup
from ..cgroup_files import read, read_number, read_pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TICK = 10_000_000  # nanoseconds: the unit of cpuacct.stat is USER_HZ, which is 100


def usage_of(cgroup: Cgroup) -> dict[str, Any]:
    """Processor times in nanoseconds, memory in bytes. What the host does not count is 0."""
    return {
        "cpu": _cpu(cgroup),
        "memory": _memory(cgroup),
        "pids": _pids(cgroup),
        "blkio": _blkio(cgroup),
    }


def _path(cgroup: Cgroup, controller: str, old: str, new: str) -> tuple[str, bool]:
    """The file of a controller, and whether it is version 1's."""
    root = cgroup.hierarchies.v1.get(controller)
    if root is not None:
        return os.path.join(root, cgroup.path, old), True
    return os.path.join(cgroup.hierarchies.v2, cgroup.path, new), False


def _cpu(cgroup: Cgroup) -> dict[str, Any]:
    path, old = _path(cgroup, "cpuacct", "cpuacct.stat", "cpu.stat")
    counts = read_pairs(path)
    if old:
        total = read_number(os.path.join(os.path.dirname(path), "cpuacct.usage"))
        user, system = counts.get("user", 0) * _TICK, counts.get("system", 0) * _TICK
    else:
        total = counts.get("usage_usec", 0) * 1000
        user, system = counts.get("user_usec", 0) * 1000, counts.get("system_usec", 0) * 1000
    throttled = read_pairs(_path(cgroup, "cpu", "cpu.stat", "cpu.stat")[0])
    return {
        "usage": {"total": total, "kernel": system, "user": user},
        "throttling": {
            "periods": throttled.get("nr_periods", 0),
            "throttledPeriods": throttled.get("nr_throttled", 0),
            "throttledTime": throttled.get("throttled_time", 0)
            or throttled.get("throttled_usec", 0) * 1000,
        },
    }


def _memory(cgroup: Cgroup) -> dict[str, Any]:
    path, old = _path(cgroup, "memory", "memory.stat", "memory.stat")
    folder = os.path.dirname(path)
    names = (
        ("usage_in_bytes", "limit_in_bytes", "max_usage_in_bytes", "failcnt")
        if old
        else ("current", "max", "peak", "")
    )
    used, limit, most, failed = (
        read_number(os.path.join(folder, f"memory.{name}")) if name else 0 for name in names
    )
    counts = read_pairs(path)
    return {
        "usage": {"limit": limit, "usage": used, "max": most, "failcnt": failed},
        "cache": counts.get("cache", 0) if old else counts.get("file", 0),
        "raw": counts,
    }


def _pids(cgroup: Cgroup) -> dict[str, int]:
    path, _ = _path(cgroup, "pids", "pids.current", "pids.current")
    limit = read_number(os.path.join(os.path.dirname(path), "pids.max"))
    return {"current": read_number(path), "limit": limit}


def _blkio(cgroup: Cgroup) -> dict[str, Any]:
    path, old = _path(cgroup, "blkio", "blkio.throttle.io_service_bytes", "io.stat")
    rows = []
    for line in read(path).splitlines():
        words = line.split()
        device, _, minor = words[0].partition(":") if words else ("", "", "")
        if not minor:
            continue
        pairs = [words[1:3]] if old else [word.split("=") for word in words[1:]]
        for operation, value in pairs:
            if value.isdigit():
                row = {"major": int(device), "minor": int(minor), "op": operation}
                rows.append({**row, "value": int(value)})
    return {"ioServiceBytesRecursive": rows}
