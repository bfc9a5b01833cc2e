"""Runs in tests: commands: when they run, what they return."""

from __future__ import annotations

from pathlib import Path

from hostctl_host import command
from hostctl_host.contract.change import Action, Reason

from .machine import make_host, plan


def test_runs_on_every_apply_and_returns_what_it_printed(tmp_path: Path) -> None:
    host, _ = make_host()
    spec = command.Spec(cmd="sh -c 'echo out; echo err >&2'", chdir=str(tmp_path))
    changes = plan(command, spec, host)
    assert [(c.action, c.reason) for c in changes] == [(Action.RUN, Reason.ALWAYS)]
    result = command.apply(spec, command.observe(spec, host), changes, host)
    assert (result["rc"], result["stdout"], result["stderr_lines"]) == (0, "out", ["err"])


def test_creates_decides(tmp_path: Path) -> None:
    host, _ = make_host()
    spec = command.Spec(argv=("touch", str(tmp_path / "done")), creates=str(tmp_path / "do*"))
    command.apply(spec, command.observe(spec, host), plan(command, spec, host), host)
    assert plan(command, spec, host) == []


def test_removes_decides(tmp_path: Path) -> None:
    host, _ = make_host()
    assert plan(command, command.Spec(cmd="true", removes=str(tmp_path / "x")), host) == []


def test_a_failure_is_a_result_with_the_last_lines() -> None:
    host, _ = make_host()
    spec = command.Spec(cmd="sh -c 'echo why >&2; exit 3'")
    result = command.apply(spec, command.observe(spec, host), [], host)
    assert result["failed"] is True
    assert result["msg"] == "cannot run sh: exit code 3: why"


def test_stdin_and_environment_are_passed() -> None:
    host, _ = make_host()
    spec = command.Spec(cmd='sh -c "cat; echo $WHO"', stdin="in:", environment={"WHO": "me"})
    result = command.apply(spec, command.observe(spec, host), [], host)
    assert result["stdout"] == "in:me"
