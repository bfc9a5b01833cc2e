"""A run over the agent's own wire: order, failures, handlers, results, the second empty run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.change import Action, Reason, Unknown
from hostctl_host.contract.report import HostReport, HostStatus, Status

from .wire import World, document


def note(path: Path, text: str = "hello", **fields: Any) -> dict[str, Any]:
    spec = {"path": str(path), "text": text, **fields.pop("spec", {})}
    return {"id": f"note.{path.name}", "kind": "note", "spec": spec, **fields}


def statuses(report: HostReport) -> dict[str, str]:
    return {outcome.resource: outcome.status.value for outcome in report.outcomes}


def test_apply_does_what_plan_said_and_then_plan_is_empty(world: World, tmp_path: Path) -> None:
    resources = (note(tmp_path / "a"), note(tmp_path / "b", needs=["note.a"]))
    planned = world.plan(*resources)
    assert not (tmp_path / "a").exists()
    assert not world.data.exists()
    assert not world.run.exists()
    applied = world.apply(*resources)
    assert [o.changes for o in applied.outcomes] == [o.changes for o in planned.outcomes]
    assert planned.outcomes[0].changes[0].action is Action.CREATE
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "hello"
    assert world.plan(*resources).count(Status.OK) == 2


def test_a_second_apply_acts_on_nothing_and_makes_no_generation(
    world: World, tmp_path: Path, acts: Any
) -> None:
    first = world.apply(note(tmp_path / "a"))
    second = world.apply(note(tmp_path / "a"))
    assert (first.generation, second.generation) == (1, 1)
    assert second.count(Status.CHANGED) == 0
    assert len(acts()) == 1
    assert world.apply(note(tmp_path / "a", "other")).generation == 2


def test_tasks_run_in_order_and_the_graph_by_needs(world: World, tmp_path: Path, acts: Any) -> None:
    world.apply(
        note(tmp_path / "pre", section="pre_tasks"),
        note(tmp_path / "task2", section="tasks"),
        note(tmp_path / "task1", section="tasks"),
        note(tmp_path / "late", needs=["note.early"]),
        note(tmp_path / "early", spec={"slow": 0.1}),
        note(tmp_path / "post", section="post_tasks"),
    )
    assert [Path(line.split()[0]).name for line in acts()] == [
        "pre",
        "task2",
        "task1",
        "early",
        "late",
        "post",
    ]


def test_independent_resources_run_beside_each_other(world: World, tmp_path: Path) -> None:
    with world.start("apply") as agent:
        running: set[str] = set()
        most = 0

        def watch(frame: dict[str, Any]) -> None:
            nonlocal most
            if frame["type"] == "progress" and frame["message"] == "writing":
                running.add(frame["id"])
            elif frame["type"] == "progress" and frame["state"] == "changed":
                running.discard(frame["id"])
            most = max(most, len(running))

        agent.on_frame = watch
        agent.run(document(*(note(tmp_path / f"n{i}", spec={"slow": 0.3}) for i in range(6))))
    assert most == 6


def test_a_failed_task_stops_what_comes_after_it(world: World, tmp_path: Path) -> None:
    report = world.apply(
        note(tmp_path / "a", section="tasks", spec={"trouble": "apply"}),
        note(tmp_path / "b", section="tasks"),
        note(tmp_path / "c"),
    )
    assert report.status is HostStatus.FAILED
    assert report.generation == 0
    assert statuses(report) == {"note.a": "failed", "note.b": "skipped", "note.c": "skipped"}
    assert report.outcomes[1].reason == "because note.a failed"
    assert report.failures[0].message == f"cannot write {tmp_path}/a"
    assert report.failures[0].hint == "use another pen"


def test_an_ignored_failure_stops_nothing(world: World, tmp_path: Path) -> None:
    report = world.apply(
        note(tmp_path / "a", section="tasks", spec={"trouble": "apply"}, ignore_errors=True),
        note(tmp_path / "b", section="tasks"),
    )
    assert report.status is HostStatus.OK
    assert statuses(report) == {"note.a": "failed", "note.b": "changed"}
    assert report.failures[0].ignored


def test_a_failure_in_the_graph_skips_only_its_dependents(world: World, tmp_path: Path) -> None:
    report = world.apply(
        note(tmp_path / "a", spec={"trouble": "apply"}),
        note(tmp_path / "b", needs=["note.a"]),
        note(tmp_path / "c", needs=["note.b"]),
        note(tmp_path / "d"),
        note(tmp_path / "e", section="post_tasks"),
    )
    assert statuses(report) == {
        "note.a": "failed",
        "note.b": "skipped",
        "note.c": "skipped",
        "note.d": "changed",
        "note.e": "skipped",
    }
    reasons = {o.resource: o.reason for o in report.outcomes}
    assert reasons["note.c"] == reasons["note.e"] == "because note.a failed"


def test_what_is_only_preferred_may_fail(world: World, tmp_path: Path, acts: Any) -> None:
    report = world.apply(
        note(tmp_path / "c", needs=["note.b", "note.good"], optional=["note.b"]),
        note(tmp_path / "b", needs=["note.a"]),
        note(tmp_path / "a", spec={"trouble": "apply"}),
        note(tmp_path / "good"),
    )
    assert report.status is HostStatus.FAILED
    assert statuses(report) == {
        "note.c": "changed",
        "note.b": "skipped",
        "note.a": "failed",
        "note.good": "changed",
    }
    assert [act.split()[0].rpartition("/")[2] for act in acts()][-1] == "c"  # but after it
    assert report.warnings == ("note.c: goes on without note.b, which failed (it is not required)",)


@pytest.mark.parametrize("mode", ["plan", "apply"])
def test_what_cannot_be_observed_is_a_failure_and_stays_untouched(
    world: World, tmp_path: Path, mode: str, acts: Any
) -> None:
    report = world.execute(mode, document(note(tmp_path / "a", spec={"trouble": "observe"})))
    assert report.status is HostStatus.FAILED
    assert report.failures[0].hint == "look yourself"
    assert acts() == []


def test_what_does_not_converge_is_a_failure(world: World, tmp_path: Path) -> None:
    report = world.apply(note(tmp_path / "a", spec={"trouble": "half"}))
    assert "did not converge: text is 'half' instead of 'hello'" in report.failures[0].message


def test_a_crash_inside_a_kind_is_one_line(world: World, tmp_path: Path) -> None:
    with world.start("apply") as agent:
        report = agent.run(document(note(tmp_path / "a", spec={"trouble": "crash"})))
    assert report.failures[0].message == (
        "cannot look at note.a: ZeroDivisionError: division by zero"
    )
    assert agent.errors == ""


def test_an_unknown_kind_is_named(world: World) -> None:
    report = world.apply({"id": "nope.a", "kind": "nope"})
    assert "cannot handle kind nope" in report.failures[0].message
    assert world.apply({"id": "agent.a", "kind": "agent"}).status is HostStatus.FAILED


def test_a_skipped_task_is_not_looked_at(world: World, tmp_path: Path) -> None:
    report = world.apply(
        note(tmp_path / "a", section="tasks", skip="when: false", spec={"trouble": "crash"})
    )
    assert statuses(report) == {"note.a": "skipped"}
    assert report.outcomes[0].reason == "when: false"


def test_a_task_sees_what_the_one_before_did(world: World, tmp_path: Path, acts: Any) -> None:
    """The second of two tasks on the same file finds it done."""
    twin = {**note(tmp_path / "a", section="tasks"), "id": "note.twin"}
    report = world.apply(note(tmp_path / "a", section="tasks"), twin)
    assert statuses(report) == {"note.a": "changed", "note.twin": "ok"}
    assert len(acts()) == 1


def test_plan_says_what_it_cannot_know_because_of_an_earlier_change(
    world: World, tmp_path: Path
) -> None:
    resources = (
        note(tmp_path / "a", section="tasks"),
        note(tmp_path / "sub" / "b", section="tasks", spec={"trouble": "needs-dir"}),
    )
    report = world.plan(*resources)
    assert report.status is HostStatus.OK
    doubt = report.outcomes[1].changes[0]
    assert not doubt.certain
    assert isinstance(doubt.after, Unknown)
    assert world.plan(resources[1]).status is HostStatus.FAILED


def test_handlers_run_once_in_definition_order_after_the_section(
    world: World, tmp_path: Path, acts: Any
) -> None:
    handlers = [
        {**note(tmp_path / name), "id": f"handler.{name}"} for name in ("first", "second", "never")
    ]
    resources = (
        note(tmp_path / "a", section="tasks", notify=["second"]),
        note(tmp_path / "b", section="tasks", notify=["second", "first"]),
        note(tmp_path / "c"),
    )
    planned = world.plan(*resources, handlers=handlers)
    assert "handler.second" in statuses(planned)
    report = world.apply(*resources, handlers=handlers)
    assert [Path(line.split()[0]).name for line in acts()] == ["a", "b", "first", "second", "c"]
    assert "handler.never" not in statuses(report)
    assert not (world.data / "projects/shop/journal.jsonl").exists()


def test_a_handler_that_a_failure_kept_from_running_runs_next_time(
    world: World, tmp_path: Path
) -> None:
    handlers = [{**note(tmp_path / "h"), "id": "handler.h"}]
    first = note(tmp_path / "a", section="tasks", notify=["h"])
    broken = note(tmp_path / "b", section="tasks", spec={"trouble": "apply"})
    world.apply(first, broken, handlers=handlers)
    assert not (tmp_path / "h").exists()
    report = world.apply(first, handlers=handlers)
    assert statuses(report) == {"note.a": "ok", "handler.h": "changed"}
    assert (tmp_path / "h").exists()
    assert "handler.h" not in statuses(world.apply(first, handlers=handlers))


def test_register_gets_a_result_and_a_verdict_decides(world: World, tmp_path: Path) -> None:
    with world.start("apply") as agent:
        agent.verdicts = {
            "note.a": {"changed": False},
            "note.b": {"failed": True, "message": "not good enough"},
        }
        report = agent.run(
            document(
                note(tmp_path / "a", section="tasks", register="r", verdict=True),
                note(tmp_path / "b", section="tasks", register="s", verdict=True),
            )
        )
    results = agent.frames("result")
    assert [frame["id"] for frame in results] == ["note.a", "note.b"]
    assert results[0]["register"] == "r"
    assert results[0]["result"] == {"changed": True, "failed": False, "path": f"{tmp_path}/a"}
    assert statuses(report) == {"note.a": "ok", "note.b": "failed"}
    assert report.failures[0].message == "not good enough"


def test_failed_when_may_forgive_any_failure(world: World, tmp_path: Path) -> None:
    with world.start("apply") as agent:
        agent.verdicts = {"note.a": {"failed": False, "changed": False}}
        report = agent.run(
            document(
                note(
                    tmp_path / "a",
                    section="tasks",
                    register="r",
                    verdict=True,
                    spec={"trouble": "apply"},
                ),
                note(tmp_path / "b", section="tasks"),
            )
        )
    assert agent.frames("result")[0]["result"]["msg"] == f"cannot write {tmp_path}/a"
    assert statuses(report) == {"note.a": "ok", "note.b": "changed"}


def test_a_plan_registers_what_is_unknown(world: World, tmp_path: Path) -> None:
    with world.start("plan") as agent:
        agent.verdicts = {"note.b": {"changed": True}, "note.c": {"changed": False}}
        report = agent.run(
            document(
                note(tmp_path / "a", section="tasks", register="r"),
                note(tmp_path / "b", section="tasks", verdict=True),
                note(tmp_path / "c", section="tasks", verdict=True),
            )
        )
    assert [f["result"] for f in agent.frames("result")] == [{"unknown": True}] * 3
    assert [o.changes[0].certain for o in report.outcomes if o.changes] == [True, False]
    assert statuses(report) == {"note.a": "changed", "note.b": "changed", "note.c": "ok"}


def test_tasks_that_waited_for_a_result_follow(world: World, tmp_path: Path) -> None:
    with world.start("apply") as agent:
        agent.tasks = [
            {"resources": [note(tmp_path / "b", section="tasks", notify=["h"])], "more": True},
            {"resources": [note(tmp_path / "c")], "more": False},
        ]
        report = agent.run(
            document(
                note(tmp_path / "a", section="tasks", register="r"),
                more=True,
                handlers=[{**note(tmp_path / "h"), "id": "handler.h"}],
            )
        )
    assert list(statuses(report)) == ["note.a", "note.b", "handler.h", "note.c"]
    stored = (world.data / "projects/shop/generations/1.json").read_text()
    assert all(f'"note.{name}"' in stored for name in "abc")
    assert world.apply(*[note(tmp_path / name) for name in "abc"]).warnings == ()


def test_maybe_is_not_certain(world: World, tmp_path: Path) -> None:
    report = world.plan(note(tmp_path / "a", section="tasks", maybe=True))
    assert not report.outcomes[0].changes[0].certain


def test_secret_values_are_in_no_report_and_on_no_disk(world: World, tmp_path: Path) -> None:
    hidden = note(tmp_path / "a", "s3cret-value", no_log=True)
    for mode in ("plan", "apply"):
        with world.start(mode) as agent:
            agent.run(document(hidden))
        assert "s3cret-value" not in str(agent.seen)
    for path in world.data.rglob("*"):
        assert not path.is_file() or b"s3cret-value" not in path.read_bytes(), path
    assert world.apply(hidden).generation == 1
    assert world.apply(note(tmp_path / "a", "other", no_log=True)).generation == 2
    world.destroy()
    assert not (tmp_path / "a").exists()


def test_a_cycle_is_named(world: World, tmp_path: Path) -> None:
    report = world.apply(
        note(tmp_path / "a", needs=["note.b"]), note(tmp_path / "b", needs=["note.a"])
    )
    assert report.status is HostStatus.FAILED
    assert "it needs itself" in report.failures[0].message


def test_a_print_inside_a_kind_does_not_break_the_stream(world: World, tmp_path: Path) -> None:
    world.kind(
        "loud",
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Spec:\n    pass\n"
        "def observe(spec, host):\n    print('noise', flush=True)\n"
        "def diff(spec, observed):\n    return []\n"
        "def apply(spec, observed, changes, host):\n    pass\n",
    )
    with world.start("apply") as agent:
        report = agent.run(document({"id": "loud.a", "kind": "loud"}))
    assert report.count(Status.OK) == 1
    assert agent.errors == "noise\n"


def test_reasons_of_handlers(world: World, tmp_path: Path) -> None:
    world.kind(
        "ring",
        "from dataclasses import dataclass\n"
        "from .contract.change import Action, Change, Reason\n"
        "@dataclass(frozen=True)\nclass Spec:\n    pass\n"
        "def observe(spec, host):\n    return None\n"
        "def diff(spec, observed):\n"
        "    return [Change(Action.RUN, 'bell', reason=Reason.ALWAYS)]\n"
        "def apply(spec, observed, changes, host):\n    return {}\n",
    )
    report = world.apply(
        note(tmp_path / "a", section="tasks", notify=["ring"]),
        handlers=[{"id": "handler.ring", "kind": "ring"}],
    )
    assert report.outcomes[1].status is Status.CHANGED
    assert report.outcomes[1].changes[0].reason is Reason.NOTIFIED


def test_why_a_hidden_command_failed_is_hidden(world: World) -> None:
    spec = {"argv": ["sh", "-c", "echo s3cret >&2; exit 3"]}
    hidden = {"id": "command.login", "kind": "command", "section": "tasks", "spec": spec}
    with world.start("apply") as agent:
        report = agent.run(document({**hidden, "no_log": True}))
    assert "s3cret" not in str(agent.seen)
    assert report.failures[0].message == "cannot apply command.login: why is hidden by no_log"
    assert "s3cret" in world.apply(hidden).failures[0].message
