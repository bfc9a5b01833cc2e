"""Runs on the controller: errors as text and JSON: what, where (with the line itself), what to type next."""

from __future__ import annotations

import re
from typing import Any

from hostctl_host.contract.errors import HostctlError

from .style import Style, printable

_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+):(?P<column>\d+)(?P<rest>.*)", re.DOTALL)


def all_errors(error: HostctlError) -> list[HostctlError]:
    """The single errors of one that carries many (`errors`), in their order; else itself."""
    inner = getattr(error, "errors", None)
    if not inner:
        return [error]
    return [single for item in inner for single in all_errors(item)]


def render_errors(error: HostctlError, style: Style) -> str:
    """All errors, with a count where there is more than one."""
    errors = all_errors(error)
    blocks = ["\n".join(_error_lines(single, style)) for single in errors]
    if len(errors) > 1:
        blocks.append(style.paint(f"{len(errors)} errors, no host was touched.", "bold"))
    return printable("\n\n".join(blocks) + "\n")


def _error_lines(error: HostctlError, style: Style) -> list[str]:
    first, *rest = error.message.splitlines() or [""]
    lines = [f"{style.paint('Error:', 'bold', 'red')} {first}", *(f"  {line}" for line in rest)]
    if error.where:
        lines.append(f"  at {error.where}")
        # Who has read the file brings its lines along: it may be no file at all (stdin, a playbook's text).
        shown = [f"  {line}" for line in getattr(error, "source", ())]
        lines += shown or _excerpt(error.where, style)
    lines += [f"  {style.paint('hint:', 'cyan')} {line}" for line in error.hint.splitlines()]
    return lines


def _excerpt(where: str, style: Style) -> list[str]:
    """The line of the file with a caret under the column; nothing where the file cannot be read."""
    match = _PLACE.fullmatch(where)
    if match is None:
        return []
    number, column = int(match["line"]), int(match["column"])
    try:
        with open(match["file"], encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return []
    if not 1 <= number <= len(lines):
        return []
    line = lines[number - 1].replace("\t", " ")
    gutter = f"{number:>6} | "
    caret = " " * (len(gutter) - 2) + "| " + " " * (max(column, 1) - 1) + "^"
    return [style.paint(gutter, "dim") + line, style.paint(caret, "red")]


def errors_to_json(error: HostctlError) -> dict[str, Any]:
    """What `--json` prints where a run could not even begin."""
    return {
        "version": 1,
        "errors": [
            {"ref": e.ref, "message": e.message, "where": e.where, "hint": e.hint}
            for e in all_errors(error)
        ],
    }
