"""Runs on the managed host: how the kernel schedules the container's process, and on which CPUs `exec` runs.

Source: OCI runtime-spec 1.2 (config.md, scheduler, execCPUAffinity), sched_setattr(2).
"""

from __future__ import annotations

import os

from . import syscalls
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,  # a number that is kept free: no kernel has it
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}


class Scheduler:
    """The policy with its numbers; times in nanoseconds."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.name = str(entry.get("policy"))
        self.policy = _known(POLICIES, self.name, "scheduling policy")
        self.flags = 0
        for flag in entry.get("flags") or ():
            self.flags |= _known(FLAGS, str(flag), "scheduling flag")
        self.nice = int(entry.get("nice") or 0)
        self.priority = int(entry.get("priority") or 0)
        self.runtime = int(entry.get("runtime") or 0)
        self.deadline = int(entry.get("deadline") or 0)
        self.period = int(entry.get("period") or 0)

    def enter(self) -> None:
        """Child, while it may still raise its priority."""
        numbers = (self.nice, self.priority, self.runtime, self.deadline, self.period)
        try:
            syscalls.sched_setattr(self.policy, self.flags, *numbers)
        except OSError as error:
            raise RuntimeFailure(
                f"cannot schedule by {self.name}: {os.strerror(error.errno or 0)}",
                hint="real-time policies need priority 1 to 99, and on version 1 of cgroups a"
                " linux.resources.cpu.realtimeRuntime; see sched_setattr(2)",
                ref="bad-scheduler",
            ) from error


def _known(names: dict[str, int], name: str, what: str) -> int:
    if name not in names:
        raise RuntimeFailure(
            f"cannot use {what} {name}: unknown",
            hint=f"one of {', '.join(names)}",
            ref="bad-scheduler",
        )
    return names[name]


class Affinity:
    """CPUs of a program that `exec` starts: before and after it moves into the container's cgroup."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.initial = cpus(str(entry.get("initial") or ""))
        self.final = cpus(str(entry.get("final") or ""))


def cpus(text: str) -> set[int]:
    """`0-3,7` as numbers."""
    found: set[int] = set()
    for part in text.replace(" ", "").split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        if (
            not first.isdigit()
            or (dash and not last.isdigit())
            or (dash and int(last) < int(first))
        ):
            raise RuntimeFailure(
                f"cannot read the CPUs {text!r}", hint="write them as 0-3,7", ref="bad-cpus"
            )
        found.update(range(int(first), int(last or first) + 1))
    return found


def enter_affinity(wanted: set[int]) -> None:
    """Run on these CPUs alone; nothing happens for none."""
    if not wanted:
        return
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        raise RuntimeFailure(
            f"cannot run on CPUs {sorted(wanted)}: {error.strerror}",
            hint="name CPUs that the host has and the container's cpuset allows",
            ref="bad-cpus",
        ) from error
