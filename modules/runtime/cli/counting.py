"""Runs on the managed host: `ps` and `events`."""

from __future__ import annotations

import sys
import time

from ...contract import plainjson
from ..config import RuntimeFailure
from . import records
from .options import Option, Options, usage
from .querying import check_format
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_PS = (Option("-f --format", "FORMAT", "table or json (default: table)"),)
_EVENTS = (
    Option("--stats", "", "print what it uses now, and end"),
    Option("--interval", "TIME", "between two lines of what it uses, such as 5s (default: 5s)"),
)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}
_STEP = 0.1


def ps(context: Context, options: Options, words: list[str]) -> int:
    """Print its processes: pids of the host as JSON, or the host's `ps` of them."""
    if not words:
        raise usage("a container ID is needed")
    wanted = check_format(options)
    record = _with_cgroup(context, words[0])
    pids = sorted(record.cgroup().processes())
    if wanted == "json":
        sys.stdout.write(plainjson.dumps(pids) + "\n")
        return 0
    from ...agent.run import run

    shown = run(["ps", *(words[1:] or ["-ef"])], check=True).stdout.splitlines()
    head = shown[0].split()
    if "PID" not in head:
        raise RuntimeFailure("cannot find the column PID in what ps says", ref="no-pid-column")
    column, own = head.index("PID"), {str(pid) for pid in pids}
    lines = [line for line in shown[1:] if line.split()[column] in own]
    sys.stdout.write("\n".join([shown[0], *lines]) + "\n")
    return 0


def events(context: Context, options: Options, words: list[str]) -> int:
    """Print a line of JSON for what it uses, again and again, and one when its memory ran out."""
    if len(words) != 1:
        raise usage("exactly one container ID is needed")
    interval = _seconds(options.text("interval") or "5s")
    record = _with_cgroup(context, words[0])
    if record.status() == records.STOPPED:
        raise RuntimeFailure(
            f"cannot read what container {record.id} uses: it is not running", ref="not-running"
        )
    if options.on("stats"):
        _print(record, "stats")
        return 0
    kills = record.cgroup().oom_kills()
    due = time.monotonic() + interval
    while record.status() != records.STOPPED:
        now = record.cgroup().oom_kills()
        for _ in range(now - kills):
            _print(record, "oom")
        kills = now
        if time.monotonic() >= due:
            _print(record, "stats")
            due += interval
        time.sleep(min(_STEP, interval))
    return 0


def _print(record: Record, kind: str) -> None:
    from .usage import usage_of

    line: dict[str, object] = {"type": kind, "id": record.id}
    if kind == "stats":
        line["data"] = usage_of(record.cgroup())
    sys.stdout.write(plainjson.dumps(line) + "\n")
    sys.stdout.flush()


def _with_cgroup(context: Context, identifier: str) -> Record:
    record = records.find(context.root, identifier)
    if not record.cgroup_path:
        raise RuntimeFailure(f"cannot look into {identifier}: it has no cgroup", ref="no-cgroup")
    return record


def _seconds(text: str) -> float:
    number = text.rstrip("mshn")
    unit = text[len(number) :]
    try:
        value = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        raise usage(f"--interval takes a time such as 5s, not {text!r}") from None
    if value <= 0:
        raise usage("duration interval must be greater than 0")
    return value


COMMANDS = {"ps": (ps, _PS, "ID [PS OPTION...]", 0), "events": (events, _EVENTS, "ID", -1)}
