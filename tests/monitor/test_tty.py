"""Runs on the test machine: containers with a terminal: their log, their next life, and their monitor's end."""

from __future__ import annotations

import os
import signal

import pytest
from hostctl_host.monitor import client, state

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root

TTY = {"tty": True}


def test_its_output_is_one_stream_as_a_terminal_has_it(workshop: Workshop) -> None:
    ended, output = workshop.run(
        "a",
        "sh",
        "-c",
        "tty; stty size; echo err >&2; printf '$TERM %s' $TERM; exit 3",
        settings=TTY,
        tty=True,
    )
    assert (ended.exit_code, ended.lost) == (3, False)
    assert output == "/dev/pts/0\r\n24 80\r\nerr\r\n$TERM xterm"
    assert {entry["stream"] for entry in workshop.entries("a")} == {"stdout"}


def test_nothing_is_lost_of_much(workshop: Workshop) -> None:
    script = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"
    _, output = workshop.run("a", "sh", "-c", script, settings=TTY, tty=True)
    assert output == "".join(f"line {number}\r\n" for number in range(5000))


def _ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
        fields = stream.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_terminal_that_all_have_closed_is_no_end(workshop: Workshop) -> None:
    """Its monitor waits, and is there for whoever opens it again."""
    script = (
        "echo one; exec </dev/null >/dev/null 2>&1; while [ ! -e /tmp/go ]; do sleep 0.02; done;"
        "echo two >/dev/console; sleep 1000"
    )
    workshop.make("a", "sh", "-c", script, settings=TTY, tty=True)
    now = client.start(workshop.paths, "a")
    workshop.wait_output("a", "one\r\n")
    before = _ticks(now.monitor)
    client.run(workshop.paths, "a", {"command": ["sleep", "0.5"]}, 10)
    assert _ticks(now.monitor) - before < 10
    client.run(workshop.paths, "a", {"command": ["touch", "/tmp/go"]}, 10)
    workshop.wait_output("a", "one\r\ntwo\r\n")


def test_each_life_has_a_terminal_of_its_own(workshop: Workshop) -> None:
    settings = {**TTY, "restart": "on-failure:2"}
    workshop.make("a", "sh", "-c", "tty; exit 1", settings=settings, tty=True)
    now = client.start(workshop.paths, "a")
    until(lambda: client.status(workshop.paths, "a").restarts == 1)
    assert _ticks(now.monitor) < 50
    assert workshop.wait("a", "exited").restarts == 2
    assert workshop.output("a") == "/dev/pts/0\r\n" * 3


def test_its_terminal_goes_with_its_monitor(workshop: Workshop) -> None:
    """What it says could be heard by nobody any more: who adopts it ends it, and starts it again."""
    script = "trap '' TERM; trap 'exit 4' INT; echo up; while :; do sleep 0.05; done"
    workshop.make("a", "sh", "-c", script, settings={**TTY, "stop_grace_period": 0.2}, tty=True)
    first = client.start(workshop.paths, "a")
    workshop.wait_output("a", "up\r\n")
    os.kill(first.monitor, signal.SIGKILL)
    until(lambda: not state.alive(first.monitor, first.monitor_start))
    second = client.adopt(workshop.paths, "a")
    assert (second.status, second.watched) == ("running", True)
    assert second.pid != first.pid
    assert not state.alive(first.pid, first.start_time)
    until(lambda: workshop.output("a") == "up\r\n" * 2)
    # The new one is its monitor's own child, whose exit code is known.
    assert client.stop(workshop.paths, "a", signal=signal.SIGINT, grace=10).exit_code == 4


def test_who_reads_it_ends_with_the_monitor(workshop: Workshop) -> None:
    settings = {**TTY, "stdin_open": True}
    workshop.make("a", "cat", settings=settings, tty=True, init=True)
    first = client.start(workshop.paths, "a")
    os.kill(first.monitor, signal.SIGKILL)
    assert workshop.wait("a", "exited").lost
    client.stop(workshop.paths, "a")
