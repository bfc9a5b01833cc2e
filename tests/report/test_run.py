"""Exit codes, the merge of plays, and the run's JSON."""

from __future__ import annotations

import pytest
from hostctl_host.contract.change import UNKNOWN, Action, Change
from hostctl_host.contract.report import Failure, HostReport, HostStatus, Outcome, Status

from hostctl.report.run import Mode, RunReport, natural, run_to_json

CHANGED = Outcome(
    "file./a", Status.CHANGED, (Change(Action.UPDATE, "mode", "0644", "0600"),), where="p.yml:1:1"
)
FINE = HostReport(HostStatus.OK, (Outcome("file./b", Status.OK),))
DIFFERENT = HostReport(HostStatus.OK, (CHANGED,), generation=3)
FAILED = HostReport(HostStatus.FAILED, failures=(Failure("file./a", "cannot"),))
GONE = HostReport(HostStatus.UNREACHABLE)
LOCKED = HostReport(HostStatus.LOCKED)


@pytest.mark.parametrize(
    ("mode", "reports", "code"),
    [
        (Mode.PLAN, [], 0),
        (Mode.PLAN, [FINE], 0),
        (Mode.PLAN, [FINE, DIFFERENT], 2),
        (Mode.PLAN, [DIFFERENT, FAILED], 1),
        (Mode.PLAN, [GONE], 1),
        (Mode.PLAN, [LOCKED], 1),
        (Mode.APPLY, [FINE, DIFFERENT], 0),
        (Mode.APPLY, [DIFFERENT, FAILED], 2),
        (Mode.APPLY, [LOCKED], 2),
        (Mode.APPLY, [FINE, GONE], 4),
        (Mode.APPLY, [FAILED, GONE, FINE], 6),
        (Mode.DESTROY, [FAILED, GONE], 6),
    ],
)
def test_exit_codes(mode, reports, code):
    run = RunReport(mode).merged({f"h{i}": report for i, report in enumerate(reports)})
    assert run.exit_code == code


def test_an_ignored_failure_leaves_the_exit_code_alone():
    report = HostReport(HostStatus.OK, failures=(Failure("file./a", "cannot", ignored=True),))
    assert RunReport(Mode.APPLY, {"h": report}).exit_code == 0


def test_plays_add_up_and_the_worse_status_stays():
    run = RunReport(Mode.APPLY).merged({"b": DIFFERENT, "a": FINE}).merged({"b": FAILED})
    assert list(run.hosts) == ["a", "b"]
    assert run.hosts["b"].status is HostStatus.FAILED
    assert run.hosts["b"].outcomes == (CHANGED,)
    assert run.hosts["b"].generation == 3


def test_names_sort_as_people_count():
    assert sorted(["web10", "web2", "db", "web1", "7"], key=natural) == [
        "7",
        "db",
        "web1",
        "web2",
        "web10",
    ]


def test_json_has_the_shape_of_the_design():
    unknown = Outcome(
        "file./c", Status.CHANGED, (Change(Action.CREATE, "x", None, UNKNOWN, certain=False),)
    )
    report = HostReport(HostStatus.OK, (CHANGED, unknown), generation=3)
    assert run_to_json(RunReport(Mode.APPLY, {"web1": report})) == {
        "version": 1,
        "verb": "apply",
        "hosts": {
            "web1": {
                "status": "ok",
                "ok": 0,
                "changed": 2,
                "failed": 0,
                "skipped": 0,
                "generation": 3,
                "changes": [
                    {
                        "resource": "file./a",
                        "action": "update",
                        "field": "mode",
                        "before": "0644",
                        "after": "0600",
                        "reason": "differs",
                    },
                    {
                        "resource": "file./c",
                        "action": "create",
                        "field": "x",
                        "before": None,
                        "after": {"unknown": True},
                        "reason": "differs",
                        "certain": False,
                    },
                ],
                "failures": [],
                "warnings": [],
                "resources": [
                    {"resource": "file./a", "status": "changed", "name": "", "where": "p.yml:1:1"},
                    {"resource": "file./c", "status": "changed", "name": ""},
                ],
            }
        },
        "summary": {
            "hosts": {"ok": 1, "failed": 0, "unreachable": 0, "locked": 0},
            "ok": 0,
            "changed": 2,
            "failed": 0,
            "skipped": 0,
            "actions": {
                "create": 0,
                "update": 1,
                "replace": 0,
                "delete": 0,
                "run": 0,
                "maybe": 1,
            },
        },
    }
