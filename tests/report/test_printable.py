"""Runs on the developer's machine: what a container says in a report steers nobody's terminal."""

from __future__ import annotations

import io

import pytest
from hostctl_host.contract.change import Action, Change
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.report import Failure, HostReport, HostStatus, Outcome, Status

from hostctl.report.errors import render_errors
from hostctl.report.progress import Progress
from hostctl.report.run import Mode, RunReport
from hostctl.report.style import Style, printable
from hostctl.report.table import table
from hostctl.report.text import render_run

CLIPBOARD = "\x1b]52;c;cm0gLXJmIC8K\x07"
CLEAR = "\x1b[2J\x1b[H"
OVER = "\rall is well"
EIGHT_BIT = "\x9b2J"
BACKWARDS = "\u202egnp.exe"
HOSTILE = (CLIPBOARD, CLEAR, OVER, EIGHT_BIT, BACKWARDS)


def harmless(text: str) -> bool:
    return not any(
        one in text for one in ("\x1b]", "\x1b[2J", "\x1b[H", "\x07", "\r", "\x9b", "\u202e")
    )


@pytest.mark.parametrize("said", HOSTILE)
@pytest.mark.parametrize("colour", [False, True])
def test_a_report_shows_it_and_obeys_none_of_it(said: str, colour: bool) -> None:
    outcome = Outcome(
        "container.a",
        status=Status.CHANGED,
        changes=(
            Change(Action.UPDATE, "state", f"exited {said}", "running", note=said, diff=said),
        ),
    )
    failed = Failure("container.a", f"it ended:\n{said}", said)
    report = HostReport(
        status=HostStatus.FAILED, outcomes=(outcome,), failures=(failed,), warnings=(said,)
    )
    text = render_run(RunReport(Mode.APPLY, {"web1": report}), Style(colour=colour))
    assert harmless(text), text
    assert printable(said) in text
    assert ("\x1b[31m" in text) == colour


@pytest.mark.parametrize("said", HOSTILE)
def test_nor_do_errors_tables_and_progress(said: str) -> None:
    error = HostctlError(f"cannot start a: {said}", hint=said)
    assert harmless(render_errors(error, Style(colour=True)))
    rows = table(["NAME", "STATUS"], [["a", f"Exited {said}\nb   running\t1"]])
    assert harmless(rows)
    assert len(rows.splitlines()) == 2
    stream = io.StringIO()
    with Progress(stream, Style(), live=False, verbose=2) as progress:
        progress.event("web1", {"type": "progress", "id": "x", "state": "ok", "message": said})
    assert harmless(stream.getvalue())
    assert "web1: ok x" in stream.getvalue()


def test_what_people_wrote_stays_as_it_is() -> None:
    text = "é 漢字 → ✗ \u00a0 tab\tand \n lines \x1b[1;31mours\x1b[0m"
    assert printable(text) == text
