"""Runs in both worlds: what a host says at the end of a run. Shapes as in the run's JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .change import Change, change_from_json, change_to_json


class Status(str, Enum):
    """How one resource ended."""

    OK = "ok"
    CHANGED = "changed"
    FAILED = "failed"
    SKIPPED = "skipped"


class HostStatus(str, Enum):
    """How one host ended."""

    OK = "ok"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    LOCKED = "locked"


@dataclass(frozen=True)
class Failure:
    """One resource (or the host itself, where `resource` is empty) that failed."""

    resource: str
    message: str
    hint: str = ""
    ignored: bool = False


@dataclass(frozen=True)
class Outcome:
    """One resource's part of the report. `changes` is what was (or would be) changed."""

    resource: str
    status: Status
    changes: tuple[Change, ...] = ()
    name: str = ""
    reason: str = ""
    where: str = ""


@dataclass(frozen=True)
class HostReport:
    """One host's part of the run's JSON. `generation` is 0 where none was written (plan, failure)."""

    status: HostStatus
    outcomes: tuple[Outcome, ...] = ()
    failures: tuple[Failure, ...] = ()
    generation: int = 0
    warnings: tuple[str, ...] = field(default=())

    def count(self, status: Status) -> int:
        """Number of resources that ended so."""
        return sum(1 for outcome in self.outcomes if outcome.status is status)


def report_to_json(report: HostReport) -> dict[str, Any]:
    """The object under `hosts.NAME` of the run's JSON."""
    return {
        "status": report.status.value,
        **{status.value: report.count(status) for status in Status},
        "generation": report.generation,
        "changes": [
            {"resource": outcome.resource, **change_to_json(change)}
            for outcome in report.outcomes
            for change in outcome.changes
        ],
        "failures": [
            {"resource": f.resource, "message": f.message, "hint": f.hint}
            | ({"ignored": True} if f.ignored else {})
            for f in report.failures
        ],
        "warnings": list(report.warnings),
        "resources": [
            {"resource": o.resource, "status": o.status.value, "name": o.name}
            | ({"reason": o.reason} if o.reason else {})
            | ({"where": o.where} if o.where else {})
            for o in report.outcomes
        ],
    }


def report_from_json(data: dict[str, Any]) -> HostReport:
    """The inverse of `report_to_json`."""
    changes: dict[str, list[Change]] = {}
    for item in data["changes"]:
        changes.setdefault(item["resource"], []).append(change_from_json(item))
    return HostReport(
        status=HostStatus(data["status"]),
        outcomes=tuple(
            Outcome(
                resource=item["resource"],
                status=Status(item["status"]),
                changes=tuple(changes.get(item["resource"], ())),
                name=item.get("name", ""),
                reason=item.get("reason", ""),
                where=item.get("where", ""),
            )
            for item in data["resources"]
        ),
        failures=tuple(
            Failure(f["resource"], f["message"], f.get("hint", ""), f.get("ignored", False))
            for f in data["failures"]
        ),
        generation=data["generation"],
        warnings=tuple(data.get("warnings", ())),
    )
