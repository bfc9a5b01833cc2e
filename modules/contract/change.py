"""Runs in both worlds: one difference between what is and what should be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Action(str, Enum):
    """What happens to the resource. The value is the name in JSON; `glyph` is what the screen shows."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    RUN = "run"

    @property
    def glyph(self) -> str:
        return {"create": "+", "update": "~", "replace": "-/+", "delete": "-", "run": ">"}[
            self.value
        ]


class Unknown:
    """A value that exists only after apply. Equal to nothing but another Unknown."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unknown)

    def __hash__(self) -> int:
        return hash("unknown")

    def __repr__(self) -> str:
        return "(known after apply)"


UNKNOWN = Unknown()


class Reason(str, Enum):
    """Why the change is made: a closed list, in the words that the plan prints."""

    ABSENT = "does not exist"
    DIFFERS = "differs"
    REMOVED = "no longer declared"
    UNSET = "no longer set"
    UNWANTED = "should not exist"
    NOT_RUNNING = "is not running"
    DEPENDENCY = "a dependency changes"
    IMAGE = "image changed"
    NOTIFIED = "notified"
    ALWAYS = "runs on every apply"
    UNDO = "put back as it was found"


@dataclass(frozen=True)
class Change:
    """One field that changes (or the whole resource where `field` is empty).

    `before` and `after` are JSON values, `None` for absent, `UNKNOWN` for known after apply.
    `diff` holds a unified text diff where the value is file content.
    `certain=False` says that the change may turn out not to be needed.
    """

    action: Action
    field: str = ""
    before: Any = None
    after: Any = None
    reason: Reason = Reason.DIFFERS
    diff: str = ""
    certain: bool = True
    note: str = ""


def change_to_json(change: Change) -> dict[str, Any]:
    """The change as in the run's JSON, without the resource's name."""
    data: dict[str, Any] = {
        "action": change.action.value,
        "field": change.field,
        "before": _value(change.before),
        "after": _value(change.after),
        "reason": change.reason.value,
    }
    if change.diff:
        data["diff"] = change.diff
    if not change.certain:
        data["certain"] = False
    if change.note:
        data["note"] = change.note
    return data


def change_from_json(data: dict[str, Any]) -> Change:
    """The inverse of `change_to_json`; other keys (such as `resource`) are ignored."""
    return Change(
        action=Action(data["action"]),
        field=data["field"],
        before=_unvalue(data["before"]),
        after=_unvalue(data["after"]),
        reason=Reason(data["reason"]),
        diff=data.get("diff", ""),
        certain=data.get("certain", True),
        note=data.get("note", ""),
    )


def _value(value: Any) -> Any:
    return {"unknown": True} if isinstance(value, Unknown) else value


def _unvalue(value: Any) -> Any:
    return UNKNOWN if value == {"unknown": True} else value
