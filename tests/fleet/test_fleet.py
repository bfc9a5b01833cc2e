"""Many hosts at once: none stops another, and all stop together."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.fleet.fleet import Fleet, run_hosts
from hostctl.fleet.session import run_program
from hostctl.fleet.target import Target
from tests.fleet.program import Program, opened

pytestmark = pytest.mark.root


def test_one_bad_host_stops_no_other(server, options, dirs):
    down = server.variables(ansible_port=1)
    targets = [
        Target.from_vars("a", server.variables(**dirs)),
        Target.from_vars("down", down),
        Target.from_vars("nopython", server.variables(ansible_user="nopython")),
        Target.from_vars("z", server.variables(**dirs)),
    ]
    reports = run_hosts(
        [(t, Program()) for t in targets], "apply", options, lambda *_: None, forks=2
    )
    assert [(name, report.status.value) for name, report in reports.items()] == [
        ("a", "ok"),
        ("down", "unreachable"),
        ("nopython", "failed"),
        ("z", "ok"),
    ]


def test_stopping_ends_the_agents(server, options, dirs, tmp_path, monkeypatch):
    targets = [Target.from_vars(f"w{n}", server.variables(**dirs)) for n in range(3)]
    opened(targets[0], options).close()
    fleet = Fleet()
    marks = {target.name: tmp_path / target.name for target in targets}

    def work(target):
        with fleet.session(target, "apply", options) as session:
            program = Program("mark", mark=str(marks[target.name]))
            return run_program(session, program, lambda _: None)

    def agents() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if dirs["hostctl_run_dir"].encode() in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                pass
        return found

    def interrupt() -> None:
        while not all(mark.exists() for mark in marks.values()):
            time.sleep(0.02)
        assert len(agents()) >= 3
        fleet.stop()

    threading.Thread(target=interrupt, daemon=True).start()
    results = fleet.map(work, targets)
    assert all(isinstance(result, HostctlError) for result in results.values())
    deadline = time.monotonic() + 60
    while agents() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert agents() == []
