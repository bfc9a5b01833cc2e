"""A container's life under its monitor: start, stop, restart, logs, limits."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import client, reader
from hostctl_host.runtime import cgroup

from tests.runtime.workshop import Workshop, until

from .processes import monitors

pytestmark = pytest.mark.root


def test_output_and_exit_code(workshop: Workshop) -> None:
    ended, _ = workshop.run("a", "sh", "-c", "echo out; echo err >&2; printf part; exit 3")
    assert (ended.status, ended.exit_code, ended.pid) == ("exited", 3, 0)
    assert ended.ending == "exit code 3"
    found = {(entry["stream"], entry["log"]) for entry in workshop.entries("a")}
    assert found == {("stdout", "out\n"), ("stderr", "err\n"), ("stdout", "part")}
    assert workshop.cgroups() == []
    until(lambda: not monitors(workshop))


def test_killed_by_a_signal(workshop: Workshop) -> None:
    ended, _ = workshop.run("a", "sh", "-c", "kill -9 $$; sleep 5", init=True)
    assert ended.exit_code == 137
    assert ended.ending == "exit code 137 (signal 9)"


def test_stop_is_signal_grace_kill(workshop: Workshop) -> None:
    settings = {"stop_signal": 10, "stop_grace_period": 0.3, "restart": "always"}
    workshop.make(
        "nice",
        "sh",
        "-c",
        "trap 'exit 5' USR1; echo up; while :; do sleep 0.05; done",
        settings=settings,
    )
    workshop.make(
        "deaf", "sh", "-c", "trap '' USR1; echo up; while :; do sleep 0.05; done", settings=settings
    )
    for name in ("nice", "deaf"):
        client.start(workshop.paths, name)
        workshop.wait_output(name, "up")
    assert client.stop(workshop.paths, "nice").exit_code == 5
    began = time.monotonic()
    stopped = client.stop(workshop.paths, "deaf")
    assert 0.25 < time.monotonic() - began < 3
    assert (stopped.status, stopped.exit_code, stopped.stopped) == ("exited", 137, True)
    assert client.stop(workshop.paths, "deaf").status == "exited"
    assert client.stop(workshop.paths, "never-made").status == "created"


def test_restart_policy_and_backoff(workshop: Workshop) -> None:
    workshop.make("a", "sh", "-c", "date +%s.%N; exit 1", settings={"restart": "on-failure:3"})
    began = time.monotonic()
    client.start(workshop.paths, "a")
    ended = workshop.wait("a", "exited")
    assert ended.restarts == 3
    assert workshop.output("a").count("\n") == 4
    assert 0.7 <= time.monotonic() - began < 5  # 0.1 + 0.2 + 0.4 seconds of waiting


def test_success_is_not_restarted_on_failure(workshop: Workshop) -> None:
    ended, _ = workshop.run("a", "true", settings={"restart": "on-failure"})
    assert (ended.restarts, ended.exit_code) == (0, 0)


def test_stop_while_it_waits_to_be_restarted(workshop: Workshop) -> None:
    workshop.make("a", "sh", "-c", "exit 1", settings={"restart": "always"})
    client.start(workshop.paths, "a")
    until(lambda: client.status(workshop.paths, "a").restarts >= 3)
    workshop.wait("a", "restarting")
    assert client.stop(workshop.paths, "a").status == "exited"
    assert client.status(workshop.paths, "a").status == "exited"


def test_killed_container_is_restarted(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000", settings={"restart": "unless-stopped"})
    first = client.start(workshop.paths, "a")
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: client.status(workshop.paths, "a").restarts == 1)
    second = workshop.wait("a", "running")
    assert second.pid != first.pid
    assert second.exit_code == 137


def test_signals_reach_it(workshop: Workshop) -> None:
    script = "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"
    workshop.make("a", "sh", "-c", script)
    client.start(workshop.paths, "a")
    workshop.wait_output("a", "up")
    client.kill(workshop.paths, "a", signal.SIGHUP)
    workshop.wait_output("a", "hup")
    client.kill(workshop.paths, "a", signal.SIGKILL)
    assert workshop.wait("a", "exited").exit_code == 137
    with pytest.raises(HostctlError, match="not running"):
        client.kill(workshop.paths, "a", signal.SIGHUP)


def test_log_rotation(workshop: Workshop) -> None:
    script = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done"
    log = {"max_size": 100_000, "max_file": 3}
    workshop.run("a", "sh", "-c", script, settings={"log": log})
    folder = Path(workshop.paths.container("a")) / "log"
    until(lambda: not list(folder.glob("*.tmp")) and not list(folder.glob("*.1")))
    assert sorted(path.name for path in folder.iterdir()) == [
        "container.log",
        "container.log.1.gz",
        "container.log.2.gz",
    ]
    text = b"".join(
        [
            gzip.decompress((folder / "container.log.2.gz").read_bytes()),
            gzip.decompress((folder / "container.log.1.gz").read_bytes()),
            (folder / "container.log").read_bytes(),
        ]
    )
    numbers = [int(line.split(b"line ")[1].split(b"\\n")[0]) for line in text.splitlines()]
    assert numbers[-1] == 3999
    assert numbers == list(range(numbers[0], 4000))
    assert (folder / "container.log").stat().st_size <= 100_000


def test_a_log_that_rotates_while_it_is_read_is_read_once_and_whole(workshop: Workshop) -> None:
    workshop.make("a", "true")
    folder = Path(workshop.paths.container("a")) / "log"
    log = folder / "container.log"

    def write(path: Path, *numbers: int) -> None:
        entries = [{"log": f"{n}\n", "stream": "stdout", "time": f"{n}"} for n in numbers]
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    def rotate() -> None:
        (folder / "container.log.1").rename(folder / "container.log.2")
        log.rename(folder / "container.log.1")
        write(log, 5)

    write(folder / "container.log.2", 1)
    write(folder / "container.log.1", 2)
    write(log, 3, 4)
    past = reader.Reader(workshop.paths, "a", -1).past()
    first = next(past)
    rotate()
    assert [entry.text for entry in (first, *past)] == ["1\n", "2\n", "3\n", "4\n"]
    # Between the look at container.log and that at the others.
    again = reader.Reader(workshop.paths, "a", 3)
    opened = again._rotated
    again._rotated = lambda: rotate() or opened()  # type: ignore[method-assign,func-returns-value]
    assert [entry.text for entry in again.past()] == ["3\n", "4\n", "5\n"]


def test_settle_shows_an_early_end(workshop: Workshop) -> None:
    workshop.make("a", "sh", "-c", "echo no; exit 4")
    client.start(workshop.paths, "a")
    assert client.settle(workshop.paths, "a", 5).exit_code == 4
    workshop.make("b", "sleep", "1000")
    client.start(workshop.paths, "b")
    assert client.settle(workshop.paths, "b", 0.05).status == "running"


def test_limits_change_while_it_runs(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000", mem_limit=64 << 20)
    client.start(workshop.paths, "a")
    for size in (128 << 20, 32 << 20):
        client.update(workshop.paths, "a", {"memory": {"limit": size, "swap": 2 * size}})
        v1 = cgroup.detect().v1
        root, file = (
            (v1["memory"], "memory.limit_in_bytes")
            if "memory" in v1
            else (cgroup.detect().v2, "memory.max")
        )
        path = Path(root, cgroup.container_path(workshop.paths.run, "a"), file)
        assert path.read_text() == f"{size}\n"
