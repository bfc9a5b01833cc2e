"""What the agent says when it cannot go on, and the verbs other than a run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.agent.calls import VERBS
from hostctl_host.contract.report import HostStatus

from .test_run import note
from .wire import World, document


def error_of(world: World, mode: str, header: dict[str, Any]) -> dict[str, Any]:
    with world.start(mode) as agent:
        agent.send(header)
        error = agent.read_until("error")
    assert agent.process.returncode == 1
    assert "Traceback" not in agent.errors
    return error


def test_a_document_of_another_version(world: World) -> None:
    wrong = {**document(), "version": 99}
    error = error_of(world, "apply", {"type": "document", "document": wrong})
    assert error["ref"] == "document-version"


@pytest.mark.parametrize("name", ["", "../etc", ".hidden", "a/b"])
def test_a_project_name_that_would_leave_its_folder(world: World, name: str) -> None:
    header = {"type": "document", "document": document(project=name)}
    assert error_of(world, "apply", header)["ref"] == "project-name"


def test_a_frame_that_does_not_belong_here(world: World) -> None:
    assert error_of(world, "apply", {"type": "stdin"})["ref"] == "protocol"
    assert error_of(world, "serve", {"type": "document"})["ref"] == "verb-unknown"
    error = error_of(world, "serve", {"type": "call", "verb": "dance", "args": {}})
    assert error["message"] == f"cannot answer dance: this agent knows {', '.join(VERBS)}"


@pytest.mark.parametrize("verb", ["exec", "attach", "start", "stop", "ps"])
def test_an_agent_that_is_not_shielded_enters_no_container(world: World, verb: str) -> None:
    error = error_of(world, "store", {"type": "call", "verb": verb, "args": {}})
    assert error["ref"] == "verb-unknown"


def test_bytes_that_are_no_frame_end_the_agent(world: World) -> None:
    with world.start("apply") as agent:
        agent.process.stdin.write(b"Welcome to this host!\n" * 4)
        agent.process.stdin.flush()
        assert agent.process.wait(10) == 1


def test_wrong_arguments_are_refused(world: World) -> None:
    with world.start("dance") as agent:
        assert agent.process.wait(10) == 2
    assert agent.errors.startswith("usage: ")


def test_a_run_folder_that_cannot_be_made(world: World) -> None:
    world.run = world.folder / "agent" / "hostctl_host" / "note.py" / "run"
    with world.start("apply") as agent:
        error = agent.read_until("error")
    assert error["message"].startswith("cannot lock this host: Not a directory")


def test_ps_on_a_host_without_containers(world: World) -> None:
    with world.start("serve") as agent:
        agent.send({"type": "call", "verb": "ps", "args": {"all": True}})
        assert agent.read_until("done")["code"] == 0
    assert not world.data.exists()
    assert not world.run.exists()


@pytest.mark.root
def test_a_full_disk_is_said_and_then_forgotten(world: World, tmp_path: Path) -> None:
    world.data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", world.data], check=True)
    try:
        with pytest.raises(OSError), open(world.data / "fill", "wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * 4096)
        report = world.apply(note(tmp_path / "a"))
        assert report.status is HostStatus.FAILED
        assert "No space left on device" in report.failures[0].message
        assert report.failures[0].hint == "free some space on the host, then apply again"
        (world.data / "fill").unlink()
        assert world.apply(note(tmp_path / "a")).generation == 1
        assert world.destroy().status is HostStatus.OK
    finally:
        subprocess.run(["umount", world.data], check=True)
