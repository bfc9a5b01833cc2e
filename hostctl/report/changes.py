"""Runs on the controller: the changes of one resource as lines of text, as plan and apply show them."""

from __future__ import annotations

import json
import re
from typing import Any

from hostctl_host.contract.change import Action, Change, Reason, Unknown
from hostctl_host.contract.report import Outcome

from .run import action_of, is_certain
from .style import Style

_COLOURS = {
    Action.CREATE: "green",
    Action.UPDATE: "yellow",
    Action.REPLACE: "magenta",
    Action.DELETE: "red",
    Action.RUN: "cyan",
}
_DIGEST = re.compile(r"(sha256:)?([0-9a-f]{12})[0-9a-f]{52}")


def resource_lines(outcome: Outcome, style: Style) -> list[str]:
    """`GLYPH ID  # name (reason)` and one line per field; nothing where nothing changes."""
    action = action_of(outcome)
    if action is None:
        return []
    shared = _shared_reason(outcome.changes)
    remarks = [shared.value] if shared else []
    if action is Action.REPLACE:
        remarks.append("must be replaced")
    certain = is_certain(outcome)
    if not certain:
        remarks.append("may run" if action is Action.RUN else "may change")
    head = f"{style.paint(action.glyph, _COLOURS[action])} {style.paint(outcome.resource, 'bold')}"
    if outcome.name and outcome.name != outcome.resource:
        head += style.paint(f"  # {outcome.name}", "dim")
    if remarks:
        head += f"  ({', '.join(remarks)})"
    lines = [head]
    for change in sorted(outcome.changes, key=lambda change: change.field):
        lines += ["    " + line for line in _change_lines(change, action, shared, certain, style)]
    return lines


def _shared_reason(changes: tuple[Change, ...]) -> Reason | None:
    """The reason that all changes have in common, if it says more than before and after do."""
    reasons = {change.reason for change in changes}
    if len(reasons) == 1 and reasons != {Reason.DIFFERS}:
        return reasons.pop()
    return None


def _change_lines(
    change: Change, action: Action, shared: Reason | None, certain: bool, style: Style
) -> list[str]:
    """One field: its values, then its note, then its text diff."""
    remarks = []
    if change.reason is not Reason.DIFFERS and change.reason is not shared:
        remarks.append(change.reason.value)
    if change.action is Action.REPLACE and change.field:
        remarks.append(style.paint("forces replacement", "red"))
    if certain and not change.certain and change.field:
        remarks.append("may change")
    remark = f"  ({', '.join(remarks)})" if remarks else ""
    lines = []
    if change.diff:
        lines.append(f"{change.field or 'content'}:{remark}")
    elif change.field and change.before is None and change.after is None:
        # Values that are not for showing: of a secret, say.
        lines.append(f"{change.field} changed{remark}")
    elif change.field:
        lines.append(f"{change.field}: {_transition(change, action, style)}{remark}")
    elif remark:
        lines.append(remark.strip())
    if change.note:
        lines += [style.paint(f"note: {line}", "dim") for line in change.note.splitlines()]
    return lines + ["    " + line for line in diff_lines(change.diff, style)]


def _transition(change: Change, action: Action, style: Style) -> str:
    """`before → after`; only one of the two where the resource is new or goes away."""
    if action in (Action.CREATE, Action.RUN) and change.before is None:
        return value_text(change.after)
    if action is Action.DELETE and change.after is None:
        return value_text(change.before)
    return f"{value_text(change.before)} {style.arrow} {value_text(change.after)}"


def value_text(value: Any) -> str:
    """A value as JSON in one line; digests are cut to twelve digits."""
    if isinstance(value, Unknown):
        return "(known after apply)"
    if value is None:
        return "(none)"
    if isinstance(value, str):
        match = _DIGEST.fullmatch(value)
        if match:
            return f"{match[1] or ''}{match[2]}"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def diff_lines(diff: str, style: Style) -> list[str]:
    """A unified diff, coloured, without the two lines that repeat the file's name."""
    lines = diff.splitlines()
    if len(lines) > 1 and lines[0].startswith("---") and lines[1].startswith("+++"):
        lines = lines[2:]
    return [style.paint(line, *_diff_colour(line)) for line in lines]


def _diff_colour(line: str) -> tuple[str, ...]:
    if line.startswith("@@"):
        return ("cyan",)
    return {"+": ("green",), "-": ("red",), "\\": ("dim",)}.get(line[:1], ())
