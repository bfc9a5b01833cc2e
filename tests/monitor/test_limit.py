"""Runs on the test machine: the logs of all containers of a host together stay within a limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostctl_host.monitor import client, limit

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root

SIZE = 64 << 10
LOG = {"log": {"max_size": SIZE, "max_file": 20, "compress": False}}
MUCH = "i=0; while [ $i -lt 6000 ]; do echo line $i of much; i=$((i+1)); done"


def _logs(workshop: Workshop, name: str) -> list[Path]:
    return sorted(Path(workshop.paths.container(name), "log").iterdir())


def _sum(workshop: Workshop, *names: str) -> int:
    return sum(path.stat().st_size for name in names for path in _logs(workshop, name))


def test_the_oldest_rotated_files_of_all_go_first(workshop: Workshop) -> None:
    workshop.run("old", "sh", "-c", MUCH, settings=LOG)
    before = _logs(workshop, "old")
    assert len(before) > 4 and _sum(workshop, "old") > 6 * SIZE
    limit.keep(workshop.paths, str(8 * SIZE))
    workshop.run("new", "sh", "-c", MUCH, settings=LOG)
    # A file is one entry larger or smaller than the size at which it is rotated.
    assert _sum(workshop, "old", "new") <= 9 * SIZE
    assert [path.name for path in _logs(workshop, "old")] == ["container.log"]
    numbers = [path.name for path in _logs(workshop, "new")]
    assert numbers[:2] == ["container.log", "container.log.1"]
    # What is left of it has no gap: the last lines are all there.
    assert "line 5999 of much" in workshop.output("new")


def test_without_a_limit_everything_stays(workshop: Workshop) -> None:
    limit.keep(workshop.paths, "-1")
    workshop.run("a", "sh", "-c", MUCH, settings=LOG)
    assert len(_logs(workshop, "a")) > 6


def test_the_default_is_a_tenth_of_the_file_system(workshop: Workshop) -> None:
    found = os.statvfs(workshop.paths.data) if os.path.isdir(workshop.paths.data) else None
    workshop.make("a", "true")
    found = found or os.statvfs(workshop.paths.data)
    tenth = found.f_frsize * found.f_blocks // 10
    assert limit.limit(workshop.paths.data) == min(tenth, 4 << 30)
    limit.keep(workshop.paths, str(1 << 20))
    assert limit.limit(workshop.paths.data) == 1 << 20
    limit.keep(workshop.paths, "")
    assert limit.limit(workshop.paths.data) == min(tenth, 4 << 30)
    limit.keep(workshop.paths, "")


def test_open_and_half_packed_files_are_left_alone(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    folder = Path(workshop.paths.container("a"), "log")
    for name in (
        "container.log",
        "container.log.1.gz.tmp",
        "container.log.1",
        "container.log.2.gz",
    ):
        (folder / name).write_bytes(b"x" * 1000)
    os.utime(folder / "container.log.2.gz", (1, 1))
    limit.keep(workshop.paths, "3500")
    limit.enforce(workshop.paths.data)
    assert {path.name for path in folder.iterdir()} == {
        "container.log",
        "container.log.1",
        "container.log.1.gz.tmp",
    }
    limit.keep(workshop.paths, "1")
    limit.enforce(workshop.paths.data)
    assert {path.name for path in folder.iterdir()} == {"container.log", "container.log.1.gz.tmp"}


def test_many_that_rotate_at_once_agree(workshop: Workshop) -> None:
    limit.keep(workshop.paths, str(10 * SIZE))
    settings = {"log": {**LOG["log"], "compress": True}}
    names = ["a", "b", "c", "d"]
    for name in names:
        workshop.make(name, "sh", "-c", MUCH, settings=settings)
        client.start(workshop.paths, name)
    for name in names:
        workshop.wait(name, "exited", 30)
        assert "line 5999 of much" in workshop.output(name)
        assert not os.path.exists(os.path.join(workshop.paths.container_run(name), "monitor.crash"))
    until(lambda: not [p for name in names for p in _logs(workshop, name) if p.suffix == ".tmp"])
    assert _sum(workshop, *names) <= 11 * SIZE
