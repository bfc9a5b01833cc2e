"""Runs on the managed host: limits in the words of cgroup version 1."""

from __future__ import annotations

import os

from .cgroup_files import counter
from .cgroup_files import write as _write
from .device_filter import Rule

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
_UNLIMITED = -1


def make(root: str, path: str, controller: str) -> None:
    """Make the folders. A cpuset takes no process before it has CPUs and memory nodes."""
    folder = root
    for part in path.split("/"):
        parent, folder = folder, os.path.join(folder, part)
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:
            continue
        finally:
            if controller == "cpuset":
                _inherit(parent, folder)


def _inherit(parent: str, folder: str) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        with open(os.path.join(folder, name), encoding="ascii") as stream:
            if stream.read().strip():
                continue
        with open(os.path.join(parent, name), encoding="ascii") as stream:
            write(folder, name, stream.read().strip())


def values(resources: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(controller, file, value) in the order in which they are written."""
    found: list[tuple[str, str, str]] = []

    def put(controller: str, file: str, value: Any) -> None:
        if value is not None:
            found.append((controller, f"{controller}.{file}", str(value)))

    memory = resources.get("memory") or {}
    put("memory", "limit_in_bytes", memory.get("limit"))
    put("memory", "memsw.limit_in_bytes", memory.get("swap"))
    put("memory", "soft_limit_in_bytes", memory.get("reservation"))
    put("memory", "swappiness", memory.get("swappiness"))
    if memory.get("disableOOMKiller"):
        put("memory", "oom_control", 1)
    cpu = resources.get("cpu") or {}
    put("cpu", "shares", cpu.get("shares") or None)
    put("cpu", "cfs_period_us", cpu.get("period") or None)
    put("cpu", "cfs_quota_us", cpu.get("quota") or None)
    put("cpuset", "cpus", cpu.get("cpus") or None)
    put("cpuset", "mems", cpu.get("mems") or None)
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        put("pids", "max", limit if limit > 0 else "max")
    return found


def write(folder: str, file: str, value: str) -> None:
    """Write one limit. Memory with swap is bounded below by memory alone, so a raise starts with it."""
    path = os.path.join(folder, file)
    if file == "memory.limit_in_bytes":
        with open(os.path.join(folder, file), encoding="ascii") as stream:
            growing = int(value) == _UNLIMITED or int(value) > int(stream.read())
        both = os.path.join(folder, "memory.memsw.limit_in_bytes")
        if growing and os.path.exists(both):
            _write(both, "-1")
    if file == "memory.memsw.limit_in_bytes" and not os.path.exists(path):
        return  # the kernel was started without swap accounting: memory alone is limited
    _write(path, value)


def set_devices(folder: str, rules: list[Rule]) -> None:
    """Write the rules in order; `devices.deny` of everything comes first where all is denied."""
    for rule in rules:
        kind = "a" if rule.type == "" else rule.type
        line = f"{kind} {_number(rule.major)}:{_number(rule.minor)} {rule.access}"
        _write(os.path.join(folder, "devices.allow" if rule.allow else "devices.deny"), line)


def _number(value: int) -> str:
    return "*" if value < 0 else str(value)


def oom_kills(folder: str) -> int:
    """The counter of memory.oom_control (Linux 4.13), else 0."""
    return counter(os.path.join(folder, "memory.oom_control"))
