"""Runs on the test machine: the logs of all containers of a host together stay within a limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostctl_host.monitor import client, control, limit

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


def test_half_packed_files_are_left_alone_and_open_ones_come_last(workshop: Workshop) -> None:
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
    assert _told(workshop) == []
    assert {path.name for path in folder.iterdir()} == {
        "container.log",
        "container.log.1",
        "container.log.1.gz.tmp",
    }
    # The open ones alone are near the limit: the largest is to be rotated in time.
    limit.keep(workshop.paths, "1300")
    assert _told(workshop) == [("a", 1000, True)]
    (folder / "container.log.1.gz.tmp").unlink()
    assert _told(workshop) == [("a", 1000, False)]
    limit.keep(workshop.paths, "1")
    assert _told(workshop) == [("a", 1000, True)]
    assert [path.name for path in folder.iterdir()] == ["container.log"]


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


BIG = {"log": {"max_size": 100 << 20, "max_file": 3, "compress": False}}
WRITE = """
line=$(head -c 1000 /dev/zero | tr '\\0' x)
i=0; while [ $i -lt {} ]; do echo $line; i=$((i+1)); done
touch /tmp/written
until test -e /tmp/go; do sleep 0.05; done
echo after that
{}
"""


def _told(workshop: Workshop) -> list[tuple[str, int, bool]]:
    found = limit.enforce(workshop.paths.data)
    return [(one.name, one.size, one.must) for one in found]


def _write(workshop: Workshop, name: str, kilobytes: int) -> Path:
    """A running container that has written so much, and never rotates by itself; its /tmp."""
    workshop.make(name, "sh", "-c", WRITE.format(kilobytes, "sleep 1000"), settings=BIG)
    now = client.start(workshop.paths, name)
    folder = Path(f"/proc/{now.pid}/root/tmp")
    until((folder / "written").exists, 60)
    return folder


def test_files_that_are_written_are_within_the_limit_too(workshop: Workshop) -> None:
    limit.keep(workshop.paths, str(6 << 20))
    names = ("small", "large", "last")
    folders = [
        _write(workshop, name, size) for name, size in zip(names, (1100, 4000, 5000), strict=True)
    ]
    # The last look came with the last whole megabyte.
    until(lambda: _sum(workshop, *names) <= 7 << 20, 30)
    assert _sum(workshop, "small") > 1 << 20
    for name, folder in zip(names, folders, strict=True):
        assert client.status(workshop.paths, name).status == "running"
        (folder / "go").touch()
        log = Path(workshop.paths.container(name), "log", "container.log")
        until(lambda log=log: b'"after that\\n"' in log.read_bytes())
        assert not os.path.exists(os.path.join(workshop.paths.container_run(name), "monitor.crash"))


def test_the_log_of_an_ended_container_is_emptied_where_nothing_else_helps(
    workshop: Workshop,
) -> None:
    folder = _write(workshop, "old", 3000)
    (folder / "go").touch()
    client.stop(workshop.paths, "old", grace=0)
    assert _sum(workshop, "old") > 2 << 20
    limit.keep(workshop.paths, str(2 << 20))
    with limit.rotating(workshop.paths):
        pass
    assert _sum(workshop, "old") == 0
    assert [path.name for path in _logs(workshop, "old")] == ["container.log"]


def test_a_small_log_is_not_rotated_twice(workshop: Workshop) -> None:
    """Who was told twice, because two others looked at the same time, keeps what came in between."""
    workshop.make("a", "sh", "-c", "echo one; sleep 1000", settings=BIG)
    client.start(workshop.paths, "a")
    workshop.wait_output("a", "one")
    (path,) = _logs(workshop, "a")
    size = path.stat().st_size
    for wanted in (size + 1, size, size):
        limit._cut(workshop.paths, limit.Open("a", wanted, must=True))
    until(lambda: len(_logs(workshop, "a")) == 2)
    now = control.ask(
        os.path.join(workshop.paths.container_run("a"), "monitor.sock"), {"verb": "status"}, 10
    )
    assert now["state"]["status"] == "running"
    assert [one.stat().st_size for one in _logs(workshop, "a")] == [0, size]


def test_an_early_rotation_empties_nothing(workshop: Workshop) -> None:
    workshop.run("old", "sh", "-c", "echo one", settings=BIG)
    limit._cut(workshop.paths, limit.Open("old", 1, must=False))
    assert workshop.output("old") == "one\n"
