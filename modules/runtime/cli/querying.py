"""Runs on the managed host: `state` and `list`."""

from __future__ import annotations

import sys

from ...contract import plainjson
from ..config import RuntimeFailure
from . import records
from .options import Option, Options, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_LIST = (
    Option("-q --quiet", "", "IDs only"),
    Option("-f --format", "FORMAT", "table or json (default: table)"),
)


def state(context: Context, options: Options, words: list[str]) -> int:
    """Print the container's state, as the specification has it."""
    if len(words) != 1:
        raise usage("exactly one container ID is needed")
    found = records.find(context.root, words[0]).state()
    sys.stdout.write(plainjson.dumps(found) + "\n")
    return 0


def list_all(context: Context, options: Options, words: list[str]) -> int:
    """Print all containers; one that goes meanwhile is left out."""
    wanted = check_format(options)
    found = []
    for identifier in records.identifiers(context.root):
        try:
            found.append(records.find(context.root, identifier).state())
        except RuntimeFailure:
            continue
    if options.on("quiet"):
        lines = [[item["id"]] for item in found]
    elif wanted == "json":
        sys.stdout.write(plainjson.dumps(found) + "\n")
        return 0
    else:
        names = ("id", "pid", "status", "bundle", "created", "owner")
        lines = [[name.upper() for name in names]]
        lines += [[str(item[name]) for name in names] for item in found]
    sys.stdout.write(table(lines))
    return 0


def check_format(options: Options) -> str:
    """`table` or `json`. Raises RuntimeFailure."""
    wanted = options.text("format", "table")
    if wanted not in ("table", "json"):
        raise usage(f"invalid format option {wanted!r}: table or json")
    return wanted


def table(lines: list[list[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    rows = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in lines)
    return "".join(row.rstrip() + "\n" for row in rows)


COMMANDS = {
    "state": (state, (), "ID", -1),
    "list": (list_all, _LIST, "", -1),
}
