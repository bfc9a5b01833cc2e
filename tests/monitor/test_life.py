"""A container's life under its monitor: start, stop, restart, logs, the monitor's death."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import client, starter, state
from hostctl_host.runtime import cgroup

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root


def test_output_and_exit_code(workshop: Workshop) -> None:
    ended, _ = workshop.run("a", "sh", "-c", "echo out; echo err >&2; printf part; exit 3")
    assert (ended.status, ended.exit_code, ended.pid) == ("exited", 3, 0)
    assert ended.ending == "exit code 3"
    found = {(entry["stream"], entry["log"]) for entry in workshop.entries("a")}
    assert found == {("stdout", "out\n"), ("stderr", "err\n"), ("stdout", "part")}
    assert workshop.cgroups() == []
    until(lambda: not _monitors(workshop))


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


def test_container_survives_its_monitor(workshop: Workshop) -> None:
    script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done"
    workshop.make("a", "sh", "-c", script)
    first = client.start(workshop.paths, "a")
    workshop.wait_output("a", "line 3\n")
    os.kill(first.monitor, signal.SIGKILL)
    until(lambda: not state.alive(first.monitor, first.monitor_start))
    orphan = client.status(workshop.paths, "a")
    assert (orphan.status, orphan.pid) == ("running", first.pid)
    adopted = client.adopt(workshop.paths, "a")
    assert (adopted.pid, adopted.status) == (first.pid, "running")
    assert adopted.monitor != first.monitor
    seen = workshop.output("a").count("\n")
    workshop.wait_output("a", f"line {seen + 20}\n")
    numbers = [int(line.split()[1]) for line in workshop.output("a").splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))  # nothing was lost
    os.kill(first.pid, signal.SIGKILL)
    ended = workshop.wait("a", "exited")
    assert (ended.lost, ended.exit_code) == (True, None)
    assert workshop.cgroups() == []


def test_stop_and_remove_without_a_monitor(workshop: Workshop) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
    workshop.make("a", "sh", "-c", script)
    first = client.start(workshop.paths, "a")
    os.kill(first.monitor, signal.SIGKILL)
    until(lambda: not state.alive(first.monitor, first.monitor_start))
    time.sleep(0.1)
    stopped = client.stop(workshop.paths, "a", grace=2)
    assert (stopped.status, stopped.lost) == ("exited", True)
    assert not state.alive(first.pid, first.start_time)
    assert workshop.cgroups() == []
    client.remove(workshop.paths, "a")
    client.remove(workshop.paths, "a")
    assert not os.path.exists(workshop.paths.container_run("a"))


def test_a_stuck_monitor_is_replaced(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    workshop.make("a", "sleep", "1000")
    first = client.start(workshop.paths, "a")
    os.kill(first.monitor, signal.SIGSTOP)
    client.remove(workshop.paths, "a")
    assert not state.alive(first.pid, first.start_time)
    assert not state.alive(first.monitor, first.monitor_start)
    assert workshop.cgroups() == []


def test_start_twice_and_start_after_the_zygotes_death(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    first = client.start(workshop.paths, "a")
    assert client.start(workshop.paths, "a").pid == first.pid
    zygotes = _processes(workshop, "hostctl-zygote")
    assert len(zygotes) == 2  # the one that forks, and the one that waits
    for pid in zygotes:
        os.kill(pid, signal.SIGKILL)
    workshop.make("b", "sleep", "1000")
    assert client.start(workshop.paths, "b").status == "running"
    assert client.status(workshop.paths, "a").pid == first.pid
    assert client.stop(workshop.paths, "a", grace=0).status == "exited"


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


def test_monitors_do_not_hold_the_starters_files(workshop: Workshop) -> None:
    """An SSH session must be able to end: nothing of it stays open in zygote or monitor."""
    reading, writing = os.pipe()
    code = (
        "import sys; from hostctl_host.agent.host import Paths; from hostctl_host.monitor import client;"
        "print(client.start(Paths(*sys.argv[1:3]), 'a').status)"
    )
    workshop.make("a", "sleep", "1000")
    os.set_inheritable(writing, True)
    done = subprocess.run(
        [sys.executable, "-c", code, workshop.paths.data, workshop.paths.run],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(writing,),
        timeout=30,
        check=False,
        text=True,
    )
    os.close(writing)
    assert done.stdout == "running\n"
    assert os.read(reading, 1) == b""
    os.close(reading)
    for pid in _monitors(workshop) | _processes(workshop, "hostctl-zygote"):
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) != os.getsid(0)
        assert b"SSH" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_folders_are_private(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    client.start(workshop.paths, "a")
    for path in (workshop.paths.run, workshop.paths.container_run("a")):
        assert os.stat(path).st_mode & 0o77 == 0, path
    for path in Path(workshop.paths.container_run("a")).iterdir():
        if not path.is_socket():
            assert path.stat().st_mode & 0o77 == 0, path


def test_an_old_zygote_leaves_when_its_name_is_taken(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    client.start(workshop.paths, "a")
    other = Path(workshop.paths.run, "zygote-000000000000.sock")
    Path(starter.path(workshop.paths)).rename(other)
    workshop.make("b", "sleep", "1000")
    client.start(workshop.paths, "b")
    assert not other.exists()


def test_an_unused_zygote_ends_and_leaves_no_cgroup(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        starter, "_CODE", starter._CODE.replace("main(", "zygote._CHECK_MILLISECONDS = 200; main(")
    )
    monkeypatch.setattr(
        starter,
        "_CODE",
        starter._CODE.replace("import main;", "import main; from {package}.monitor import zygote;"),
    )
    workshop.make("a", "sleep", "1000")
    client.start(workshop.paths, "a")
    time.sleep(0.5)
    assert len(_processes(workshop, "hostctl-zygote")) == 2
    client.remove(workshop.paths, "a")
    base = cgroup.Cgroup(cgroup.base(workshop.paths.run), cgroup.detect())
    until(lambda: not any(os.path.exists(folder) for folder in base.folders()))
    assert not os.path.exists(starter.path(workshop.paths))


def _monitors(workshop: Workshop) -> set[int]:
    return _processes(workshop, "hostctl-monitor")


def _processes(workshop: Workshop, name: str) -> set[int]:
    home = cgroup.Cgroup(cgroup.monitors_path(workshop.paths.run), cgroup.detect())
    return {pid for pid in home.processes() if _comm(pid) == name}


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""
