"""Runs on the controller: what all hosts said, as one value; exit codes and the run's JSON come from it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from hostctl_host.contract.change import Action
from hostctl_host.contract.report import HostReport, HostStatus, Outcome, Status, report_to_json

VERSION = 1

# What a resource is counted as when several of its fields change in different ways.
_WEIGHT = (Action.REPLACE, Action.CREATE, Action.DELETE, Action.UPDATE, Action.RUN)
_SEVERITY = (HostStatus.OK, HostStatus.LOCKED, HostStatus.FAILED, HostStatus.UNREACHABLE)


class Mode(StrEnum):
    """What the run was to do. The value is the word that the screen prints."""

    PLAN = "plan"
    APPLY = "apply"
    DESTROY = "destroy"


@dataclass(frozen=True)
class RunReport:
    """The reports of all hosts of a run, in the order of their names."""

    mode: Mode
    hosts: Mapping[str, HostReport] = field(default_factory=dict)

    def merged(self, more: Mapping[str, HostReport]) -> RunReport:
        """This report with a later play's: outcomes add up, the worse status stays."""
        hosts = dict(self.hosts)
        for name, report in more.items():
            hosts[name] = join(hosts[name], report) if name in hosts else report
        return RunReport(self.mode, {name: hosts[name] for name in sorted(hosts, key=natural)})

    def seen_as(self, mode: Mode) -> RunReport:
        """The same hosts, shown as another kind of run."""
        return RunReport(mode, self.hosts)

    def without_diffs(self) -> RunReport:
        """The same without text diffs."""
        return RunReport(self.mode, {name: _plain(report) for name, report in self.hosts.items()})

    def is_well(self, host: str) -> bool:
        """Whether the host has not failed so far."""
        return host not in self.hosts or self.hosts[host].status is HostStatus.OK

    def with_status(self, *statuses: HostStatus) -> list[str]:
        """Names of the hosts that ended so."""
        return [name for name, report in self.hosts.items() if report.status in statuses]

    @property
    def is_whole(self) -> bool:
        """Whether every host came to its end."""
        return all(report.status is HostStatus.OK for report in self.hosts.values())

    @property
    def changed(self) -> bool:
        """Whether any host changes (or changed) anything."""
        return any(report.count(Status.CHANGED) for report in self.hosts.values())

    @property
    def exit_code(self) -> int:
        """plan: 0 no change, 2 changes, 1 error. Others: 0, 2 some host failed, 4 unreachable, 6 both."""
        failed = bool(self.with_status(HostStatus.FAILED, HostStatus.LOCKED))
        unreachable = bool(self.with_status(HostStatus.UNREACHABLE))
        if self.mode is Mode.PLAN:
            return 1 if failed or unreachable else 2 if self.changed else 0
        return 2 * failed + 4 * unreachable


def _plain(report: HostReport) -> HostReport:
    outcomes = tuple(
        replace(outcome, changes=tuple(replace(change, diff="") for change in outcome.changes))
        for outcome in report.outcomes
    )
    return replace(report, outcomes=outcomes)


def join(first: HostReport, second: HostReport) -> HostReport:
    """Two plays on one host as one report. An image that a host builds for others before its turn is planned once."""
    new = tuple(
        one
        for one in second.outcomes
        if not (one.resource.startswith("image.") and one.changes and one in first.outcomes)
    )
    return HostReport(
        status=max(first.status, second.status, key=_SEVERITY.index),
        outcomes=first.outcomes + new,
        failures=first.failures + second.failures,
        generation=second.generation or first.generation,
        warnings=first.warnings + tuple(w for w in second.warnings if w not in first.warnings),
    )


def action_of(outcome: Outcome) -> Action | None:
    """The one action that a resource is counted and shown as; None where nothing changes."""
    actions = {change.action for change in outcome.changes}
    if not actions and outcome.status is Status.CHANGED:
        return Action.RUN
    return next((action for action in _WEIGHT if action in actions), None)


def is_certain(outcome: Outcome) -> bool:
    """False where every change of the resource may turn out not to be needed."""
    return not outcome.changes or any(change.certain for change in outcome.changes)


def is_open(outcome: Outcome) -> bool:
    """Whether a plan could not look at it: it needs a result that is there only after apply."""
    return outcome.status is Status.SKIPPED and outcome.reason.startswith("may change")


def count_actions(reports: Iterable[HostReport]) -> Counter[str]:
    """Changed resources by action; those that only may change are counted under `maybe`."""
    counts: Counter[str] = Counter()
    for report in reports:
        for outcome in report.outcomes:
            action = action_of(outcome)
            if action is not None and outcome.status is Status.CHANGED:
                counts[action.value if is_certain(outcome) else "maybe"] += 1
    return counts


def run_to_json(run: RunReport) -> dict[str, Any]:
    """The run's JSON, as `--json` prints it."""
    reports = list(run.hosts.values())
    counts = count_actions(reports)
    return {
        "version": VERSION,
        "verb": run.mode.value,
        "hosts": {name: report_to_json(report) for name, report in run.hosts.items()},
        "summary": {
            "hosts": {status.value: len(run.with_status(status)) for status in HostStatus},
            **{status.value: sum(report.count(status) for report in reports) for status in Status},
            "actions": {name: counts[name] for name in [*(a.value for a in Action), "maybe"]},
        },
    }


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts web2 before web10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]
