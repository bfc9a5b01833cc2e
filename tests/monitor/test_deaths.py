"""Monitors, zygotes and clients that are killed, stuck, robbed of their files or too late."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import client, control, files, starter, state
from hostctl_host.runtime import cgroup

from tests.runtime.workshop import Workshop, until

from .processes import monitors, processes

pytestmark = pytest.mark.root


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


def test_one_whose_run_folder_is_gone_is_started_anew(workshop: Workshop) -> None:
    """Nobody could read its pipes any more."""
    workshop.make("a", "sleep", "1000", settings={"stop_grace_period": 0})
    first = client.start(workshop.paths, "a")
    os.kill(first.monitor, signal.SIGKILL)
    until(lambda: not state.alive(first.monitor, first.monitor_start))
    shutil.rmtree(workshop.paths.container_run("a"))
    second = client.adopt(workshop.paths, "a")
    assert (second.status, second.watched) == ("running", True)
    assert second.pid != first.pid
    assert not state.alive(first.pid, first.start_time)


@pytest.mark.parametrize("adopted", [False, True])
def test_a_monitor_whose_run_folder_is_gone_leaves_the_next_one_alone(
    workshop: Workshop, adopted: bool
) -> None:
    settings = {"stop_grace_period": 0, "restart": "always"}
    workshop.make("a", "sleep", "1000", settings=settings)
    first = client.start(workshop.paths, "a")
    if adopted:
        os.kill(first.monitor, signal.SIGKILL)
        until(lambda: not state.alive(first.monitor, first.monitor_start))
        first = client.adopt(workshop.paths, "a")
    shutil.rmtree(workshop.paths.container_run("a"))
    second = client.adopt(workshop.paths, "a")
    assert (second.status, second.watched) == ("running", True)
    assert not state.alive(first.monitor, first.monitor_start)
    assert not state.alive(first.pid, first.start_time)
    assert os.path.exists(os.path.join(workshop.paths.container_run("a"), files.SOCKET))
    assert client.stop(workshop.paths, "a").status == "exited"


def test_a_monitor_whose_socket_is_gone_is_ended(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    workshop.make("a", "sleep", "1000", settings={"stop_grace_period": 0})
    now = client.start(workshop.paths, "a")
    os.unlink(os.path.join(workshop.paths.container_run("a"), files.SOCKET))
    assert client.stop(workshop.paths, "a").status == "exited"
    assert not state.alive(now.pid, now.start_time)
    until(lambda: not state.alive(now.monitor, now.monitor_start))


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
    # One that forks, one that will be a monitor, and its child that waits.
    until(lambda: len(processes(workshop, "hostctl-zygote")) == 3)
    for pid in processes(workshop, "hostctl-zygote"):
        with contextlib.suppress(ProcessLookupError):  # the one that waits dies with the first
            os.kill(pid, signal.SIGKILL)
    workshop.make("b", "sleep", "1000")
    assert client.start(workshop.paths, "b").status == "running"
    assert client.status(workshop.paths, "a").pid == first.pid
    assert client.stop(workshop.paths, "a", grace=0).status == "exited"


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
    for pid in monitors(workshop) | processes(workshop, "hostctl-zygote"):
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) != os.getsid(0)
        assert b"SSH" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_what_a_client_wanted_that_has_gone_is_not_begun(workshop: Workshop) -> None:
    """The request of an agent that was killed waits at the zygote's socket; then nobody wants it any more."""
    workshop.make("a", "sleep", "1000")
    client.start(workshop.paths, "a")
    workshop.make("b", "sleep", "1000")
    # One that forks, one that will be a monitor, and its child that waits.
    until(lambda: len(processes(workshop, "hostctl-zygote")) == 3)
    waiting = processes(workshop, "hostctl-zygote")
    for pid in waiting:
        os.kill(pid, signal.SIGSTOP)
    gone = control.connect(starter.path(workshop.paths), 5)
    gone.sendall(starter.request(workshop.paths, "b", "start"))
    gone.close()
    for pid in waiting:
        os.kill(pid, signal.SIGCONT)
    workshop.make("c", "sleep", "1000")
    client.start(workshop.paths, "c")
    until(lambda: len(monitors(workshop)) == 2)
    assert not os.path.exists(workshop.paths.container_run("b"))
    assert client.status(workshop.paths, "b").status == "created"


@pytest.mark.parametrize("verb", ["stop", "wait"])
def test_who_asked_a_monitor_that_is_killed_hears_at_once(workshop: Workshop, verb: str) -> None:
    workshop.make("a", "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    now = client.start(workshop.paths, "a")
    workshop.wait_output("a", "deaf")
    asked = control.connect(os.path.join(workshop.paths.container_run("a"), files.SOCKET), 5)
    asked.sendall(b'{"version": 1, "verb": "%s", "grace": 60}\n' % verb.encode())
    if verb == "stop":
        until(lambda: client.status(workshop.paths, "a").stopped)
    os.kill(now.monitor, signal.SIGKILL)
    try:
        said = asked.recv(1)  # within the 5 seconds that it would wait
    except ConnectionResetError:  # nobody had taken the call yet
        said = b""
    assert said == b""
    asked.close()
    with pytest.raises(ConnectionError):
        control.connect(os.path.join(workshop.paths.container_run("a"), files.SOCKET), 5)


def test_a_monitor_that_fails_says_why_and_is_not_tried_for_long(workshop: Workshop) -> None:
    workshop.make("a", "true")
    settings = Path(workshop.paths.container("a"), "monitor.json")
    settings.write_text('{"stop_grace_period": Infinity}')
    for _ in range(2):
        with pytest.raises(HostctlError, match=r"cannot start a: its monitor failed: .*Infinity"):
            client.start(workshop.paths, "a")
    # What an earlier version let through is stopped, too.
    settings.write_text('{"stop_grace_period": 1e12}')
    client.stop(workshop.paths, "a")
    settings.write_text("{}")
    assert client.start(workshop.paths, "a").status in ("running", "exited")


def test_nobody_starts_what_has_been_removed(workshop: Workshop) -> None:
    with pytest.raises(HostctlError, match="it has been removed"):
        client.start(workshop.paths, "a")
    assert not os.path.exists(workshop.paths.container_run("a"))


def test_removal_waits_for_what_a_killed_monitor_had_begun(workshop: Workshop) -> None:
    """Else that would end, later, the container that has the name next."""
    workshop.make("a", "sleep", "1000")
    folder = workshop.paths.container_run("a")
    os.makedirs(folder)
    lock = files.lock(folder)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (client.remove(workshop.paths, "a"), done.set()))
    thread.start()
    assert not done.wait(0.2)
    assert os.path.exists(folder)
    os.close(lock)
    assert done.wait(5)
    thread.join()
    assert not os.path.exists(folder)


def test_a_stop_is_not_meant_for_the_next_life(workshop: Workshop) -> None:
    """Who was asked to stop a container by an agent that was killed lives on, and must not end another."""
    script = "trap '' TERM; echo deaf; while :; do sleep 0.05; done"
    workshop.make("a", "sh", "-c", script, settings={"stop_grace_period": 1})
    first = client.start(workshop.paths, "a")
    workshop.wait_output("a", "deaf")
    asked = control.connect(os.path.join(workshop.paths.container_run("a"), files.SOCKET), 5)
    asked.sendall(b'{"version": 1, "verb": "stop", "grace": 1}\n')
    until(lambda: client.status(workshop.paths, "a").stopped)
    asked.close()
    for pid in (first.monitor, first.pid):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not state.alive(first.pid, first.start_time))
    second = client.start(workshop.paths, "a")
    time.sleep(1.5)
    assert client.status(workshop.paths, "a").pid == second.pid


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
    until(lambda: len(processes(workshop, "hostctl-zygote")) == 3)
    client.remove(workshop.paths, "a")
    base = cgroup.Cgroup(cgroup.base(workshop.paths.run), cgroup.detect())
    until(lambda: not any(os.path.exists(folder) for folder in base.folders()))
    assert not os.path.exists(starter.path(workshop.paths))
