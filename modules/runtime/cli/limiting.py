"""Runs on the managed host: `pause`, `resume`, `update`."""

from __future__ import annotations

import sys

from ...contract import plainjson
from .. import cgroup, cgroup_freeze
from ..config import RuntimeFailure
from . import records
from .options import Option, Options, bytes_of, usage
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .context import Context

_NUMBERS = {
    "blkio-weight": ("blockIO", "weight", "weight of its block I/O, 10 to 1000"),
    "cpu-period": ("cpu", "period", "microseconds in which the quota counts"),
    "cpu-quota": ("cpu", "quota", "microseconds of processor time in a period"),
    "cpu-burst": ("cpu", "burst", "microseconds that may be saved up"),
    "cpu-share": ("cpu", "shares", "weight of its processor time, 2 to 262144"),
    "cpu-idle": ("cpu", "idle", "1: it runs only when nobody else does"),
    "cpu-rt-period": ("cpu", "realtimePeriod", "microseconds in which the real-time limit counts"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", "microseconds of real-time processor time"),
    "kernel-memory": ("memory", "kernel", "bytes of kernel memory, where the kernel limits it"),
    "kernel-memory-tcp": ("memory", "kernelTCP", "bytes of TCP buffers"),
    "memory": ("memory", "limit", "bytes of memory"),
    "memory-reservation": (
        "memory",
        "reservation",
        "bytes that are left to it when memory is short",
    ),
    "memory-swap": ("memory", "swap", "bytes of memory and swap together; -1: as much as there is"),
    "pids-limit": ("pids", "limit", "processes and threads; -1: as many as there may be"),
}
_TEXTS = {
    "cpuset-cpus": ("cpu", "cpus", "processors that it may use, such as 0-1"),
    "cpuset-mems": ("cpu", "mems", "memory nodes that it may use"),
}
_UPDATE = (
    Option(
        "-r --resources",
        "FILE",
        "linux.resources as JSON; - reads stdin; other options are ignored",
    ),
    *(Option(f"--{key}", "VALUE", row[2]) for key, row in {**_NUMBERS, **_TEXTS}.items()),
)


def pause(context: Context, options: Options, words: list[str]) -> int:
    """Stop all its processes for the time being."""
    record = _living(context, words, records.RUNNING, records.CREATED)
    cgroup_freeze.freeze(record.cgroup())
    return 0


def resume(context: Context, options: Options, words: list[str]) -> int:
    """Let them go on."""
    record = _living(context, words, records.PAUSED)
    cgroup_freeze.thaw(record.cgroup())
    return 0


def update(context: Context, options: Options, words: list[str]) -> int:
    """Change limits; what is not named stays."""
    record = _living(context, words, records.CREATED, records.RUNNING, records.PAUSED)
    path = options.text("resources")
    resources = _read(path) if path else _given(options)
    cgroup.update(record.cgroup(), resources)
    if record.unit:
        from . import systemd

        systemd.update(record.unit, resources)
    return 0


def _given(options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, (part, name, _) in _NUMBERS.items():
        if options.text(key):
            value = bytes_of(key, options.text(key)) if part == "memory" else options.number(key)
            found.setdefault(part, {})[name] = value
    for key, (part, name, _) in _TEXTS.items():
        if options.text(key):
            found.setdefault(part, {})[name] = options.text(key)
    return found


def _read(path: str) -> dict[str, Any]:
    try:
        if path == "-":
            text = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as stream:
                text = stream.read()
        found = plainjson.loads(text)
    except (OSError, ValueError) as error:
        raise RuntimeFailure(f"cannot read {path}: {error}", ref="bad-resources") from error
    if not isinstance(found, dict):
        raise RuntimeFailure(f"cannot read {path}: these are no resources", ref="bad-resources")
    # Others write 0 and "" for what is to stay.
    return {
        part: {name: value for name, value in values.items() if value not in (0, "", None)}
        if isinstance(values, dict)
        else values
        for part, values in found.items()
    }


def _living(context: Context, words: list[str], *wanted: str) -> Record:
    if len(words) != 1:
        raise usage("exactly one container ID is needed")
    record = records.find(context.root, words[0])
    status = record.status()
    if status not in wanted:
        raise RuntimeFailure(
            f"cannot do that with container {record.id}: it is {status}, not {' or '.join(wanted)}",
            ref="wrong-status",
        )
    return record


COMMANDS = {
    "pause": (pause, (), "ID", -1),
    "resume": (resume, (), "ID", -1),
    "update": (update, _UPDATE, "ID", -1),
}
