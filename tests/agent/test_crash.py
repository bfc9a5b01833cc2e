"""Kill -9 at any instant, then apply: converged, everything owned, every handler run, nothing left over."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.document import digest
from hostctl_host.contract.report import HostStatus, Status

from .test_run import note
from .wire import Agent, World, document

BLOB = b"content\n" * 1000


def a_document(folder: Path) -> dict[str, Any]:
    """Tasks that notify, content, a graph, and a file that was there before."""
    copied = {
        "id": "copy.c",
        "kind": "copy",
        "spec": {"dest": str(folder / "c"), "digest": digest(BLOB), "mode": "0640"},
        "section": "tasks",
        "notify": ["one"],
    }
    return document(
        note(folder / "a", section="tasks", notify=["one", "two"]),
        copied,
        note(folder / "found"),
        note(folder / "n1", notify=["three"], spec={"slow": 0.01}),
        note(folder / "n2", needs=["note.n1"]),
        note(folder / "n3"),
        handlers=[{**note(folder / f"h-{name}"), "id": f"handler.{name}"} for name in HANDLERS],
    )


HANDLERS = ("one", "two", "three")


def check_after_the_next_apply(world: World, folder: Path) -> None:
    doc = a_document(folder)
    with world.start("apply") as agent:
        report = agent.run(doc, (BLOB,))
    assert report.status is HostStatus.OK, report.failures
    # A handler runs at least once after the change that notified it. Its own change is what shows here.
    made = {path.name for path in folder.iterdir()}
    assert made == {"a", "c", "found", "n1", "n2", "n3", "h-one", "h-two", "h-three"}
    with world.start("plan") as agent:
        assert agent.run(doc, (BLOB,)).count(Status.CHANGED) == 0
    project = world.data / "projects" / "shop"
    assert sorted(path.name for path in project.iterdir()) == ["generations", "ledger.json"]
    leftover = [p for p in world.folder.rglob("*") if "hostctl-" in p.name or ".part" in p.name]
    assert leftover == []
    world.destroy()
    assert {path.name for path in folder.iterdir()} == {"found", *(f"h-{n}" for n in HANDLERS)}
    assert (folder / "found").read_text() == "first"
    assert not project.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "managed"
    made.mkdir()
    (made / "found").write_text("first")
    return made


@pytest.mark.parametrize("count", range(1, 20, 3))
def test_killed_after_a_number_of_events(world: World, folder: Path, count: int) -> None:
    with world.start("apply") as agent:
        seen = 0

        def watch(frame: dict[str, Any]) -> None:
            nonlocal seen
            seen += frame["type"] == "progress"
            if seen == count:
                agent.process.kill()

        agent.on_frame = watch
        _run_until_killed(agent, a_document(folder))
    check_after_the_next_apply(world, folder)


@pytest.mark.parametrize("milliseconds", range(40, 160, 20))
def test_killed_at_a_time(world: World, folder: Path, milliseconds: int) -> None:
    with world.start("apply") as agent:
        timer = threading.Timer(milliseconds / 1000, agent.process.kill)
        timer.start()
        _run_until_killed(agent, a_document(folder))
        timer.join()
    check_after_the_next_apply(world, folder)


def test_a_controller_that_leaves_stops_the_run_between_acts(
    world: World, folder: Path, acts: Any
) -> None:
    with world.start("apply") as agent:
        agent.send(
            {
                "type": "document",
                "document": document(
                    *(note(folder / f"t{i}", section="tasks", spec={"slow": 0.3}) for i in range(9))
                ),
            }
        )
        agent.read_until("progress")
        agent.process.stdin.close()
        agent.process.wait(10)
        assert agent.process.returncode == 1
    done = [path.name for path in folder.iterdir() if path.name != "found"]
    assert 1 <= len(done) < 9
    assert len(acts()) == len(done)
    world.destroy()
    assert [path.name for path in folder.iterdir()] == ["found"]


def test_a_controller_that_leaves_before_the_document_ends_the_agent(world: World) -> None:
    for mode in ("plan", "apply"):
        with world.start(mode) as agent:
            agent.read_until("hello")
            agent.process.stdin.close()
            assert agent.process.wait(10) == 1


def test_the_waiting_parent_of_a_plan_takes_its_child_along(world: World, folder: Path) -> None:
    with world.start("plan") as agent:
        agent.read_until("hello")
        children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
        end = time.monotonic() + 60
        while not children.read_text().split() and time.monotonic() < end:
            time.sleep(0.01)
        child = int(children.read_text().split()[0])
        agent.process.send_signal(signal.SIGKILL)
        agent.process.wait()
        while Path(f"/proc/{child}/stat").exists() and time.monotonic() < end:
            if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
                break
            time.sleep(0.01)
        else:
            assert not Path(f"/proc/{child}").exists()


def _run_until_killed(agent: Agent, doc: dict[str, Any]) -> None:
    try:
        agent.run(doc, (BLOB,))
    except (AssertionError, OSError, ValueError):
        pass  # the stream ends where the agent was killed
    except Exception as error:
        if type(error).__name__ != "BrokenFrame":
            raise


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_command_ends_with_its_children_when_the_controller_leaves(
    world: World, tmp_path: Path, stubborn: bool
) -> None:
    """The child would hold the output open; what ignores TERM is killed."""
    trap = "trap '' TERM; " if stubborn else ""
    script = f"{trap}sleep 3333 & echo $$ $! > {tmp_path}/pids; while :; do wait; sleep 0.1; done"
    task = {"id": "command.a", "kind": "command", "section": "tasks"}
    after = note(tmp_path / "after", section="tasks")
    with world.start("apply") as agent:
        resource = {**task, "spec": {"argv": ["sh", "-c", script]}}
        agent.send({"type": "document", "document": document(resource, after)})
        while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
            time.sleep(0.02)
        agent.process.stdin.close()
        agent.process.wait(120)
    for pid in (tmp_path / "pids").read_text().split():
        assert not _alive(int(pid))
    assert not (tmp_path / "after").exists()


def test_a_deadline_ends_the_children_too(tmp_path: Path) -> None:
    from hostctl_host.agent.run import run
    from hostctl_host.contract.errors import HostctlError

    with pytest.raises(HostctlError, match="not done after"):
        run(["sh", "-c", f"sleep 3232 & echo $! > {tmp_path}/pid; wait"], timeout=0.3)
    assert not _alive(int((tmp_path / "pid").read_text()))


def _alive(pid: int) -> bool:
    """Running, and no zombie that only nobody has reaped."""
    for _ in range(20):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True
