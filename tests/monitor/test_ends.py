"""Runs on the test machine: how a container ended is known as long as its monitor lives, however slow the host is.

A monitor is made slow by holding the lock under which it writes.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostctl_host.monitor import client, state, steps
from hostctl_host.monitor.place import Place
from hostctl_host.runtime.config import RuntimeFailure

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root


@contextmanager
def slow(workshop: Workshop, name: str, over: Callable[[], object]) -> Iterator[None]:
    """Nothing is written about the container until something is so."""
    held = state.changing(workshop.paths.container_run(name))
    held.__enter__()

    def release() -> None:
        try:
            until(over, 60)
        finally:
            held.__exit__()

    waiting = threading.Thread(target=release)
    waiting.start()
    try:
        yield
    finally:
        waiting.join()


def dead(now: state.State) -> Callable[[], bool]:
    return lambda: not state.container_alive(now)


def children(pid: int) -> set[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as stream:
        return {int(word) for word in stream.read().split()}


def test_a_stop_that_takes_too_long_loses_no_exit_code(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    workshop.make("a", "sleep", "1000", settings={"stop_grace_period": 0, "restart": "always"})
    first = client.start(workshop.paths, "a")
    with slow(workshop, "a", dead(first)):
        now = client.stop(workshop.paths, "a")
    assert (now.status, now.exit_code, now.lost) == ("exited", 137, False)


def test_so_does_one_whose_socket_is_gone(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    workshop.make("a", "sleep", "1000", settings={"stop_grace_period": 0, "restart": "always"})
    client.start(workshop.paths, "a")
    os.unlink(os.path.join(workshop.paths.container_run("a"), "monitor.sock"))
    now = client.stop(workshop.paths, "a")
    assert (now.status, now.exit_code, now.lost) == ("exited", 137, False)


def test_who_looks_waits_for_the_monitors_word(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    first = client.start(workshop.paths, "a")
    seen: list[state.State] = []
    later = time.monotonic() + 1.2
    with slow(workshop, "a", lambda: time.monotonic() > later):
        os.kill(first.pid, signal.SIGKILL)
        until(dead(first))
        seen.append(client.status(workshop.paths, "a"))
    assert (seen[0].exit_code, seen[0].lost) == (137, False)


def test_an_end_between_two_looks_is_not_lost(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor writes, and leaves, after the state was read and before the process is looked for."""
    workshop.make("a", "sleep", "1000")
    first = client.start(workshop.paths, "a")
    alive = state.container_alive

    def late(now: state.State) -> bool:
        if state.alive(first.pid, first.start_time):
            os.kill(first.pid, signal.SIGKILL)
            until(lambda: not state.alive(first.monitor, first.monitor_start))
        return alive(now)

    monkeypatch.setattr(state, "container_alive", late)
    now = client.status(workshop.paths, "a")
    assert (now.status, now.exit_code, now.lost) == ("exited", 137, False)


def test_the_act_that_writes_the_end_may_be_killed(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    first = client.start(workshop.paths, "a")
    with state.changing(workshop.paths.container_run("a")):
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: children(first.monitor) - {first.pid})
        until(lambda: first.pid not in children(first.monitor))
        (act,) = children(first.monitor)
        os.kill(act, signal.SIGKILL)
        until(lambda: children(first.monitor) - {act})
    workshop.wait("a", "exited")
    now = client.status(workshop.paths, "a")
    assert (now.exit_code, now.lost) == (137, False)


def test_nor_does_a_cgroup_that_stays_keep_it(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: object) -> None:
        raise RuntimeFailure("cannot remove cgroup x: it is in use")

    workshop.make("a", "sleep", "1000")
    place = Place("\0".join(("start", "a", workshop.paths.data, workshop.paths.run)).encode())
    monkeypatch.setattr(steps.cgroup, "release", busy)
    assert steps._clear(place, place.cgroup()) == "cannot remove cgroup x: it is in use"


def test_a_start_whose_monitor_is_killed_is_begun_again(workshop: Workshop) -> None:
    """And not brought to its end by the monitor's child: nobody would look after the container."""
    workshop.make("a", "sleep", "1000")
    folder = workshop.paths.container_run("a")
    os.makedirs(folder)
    started: list[state.State] = []
    starting = threading.Thread(
        target=lambda: started.append(client.start(workshop.paths, "a")), daemon=True
    )
    with state.changing(folder):
        starting.start()
        # Its program runs, and the child waits to write that down.
        until(lambda: workshop.cgroups() and (state.read(folder) or state.State("a")).monitor)
        found = state.read(folder)
        assert found is not None
        until(lambda: any(len(children(pid)) == 0 for pid in children(found.monitor)))
        os.kill(found.monitor, signal.SIGKILL)
        until(lambda: not state.alive(found.monitor, found.monitor_start))
    starting.join(60)
    (now,) = started
    assert (now.status, now.watched) == ("running", True)
    assert now.monitor != found.monitor
    assert {os.path.basename(path) for path in workshop.cgroups()} == {"a"}
    # Nothing is left of the first attempt.
    inside = {
        pid for path in workshop.cgroups() for pid in Path(path, "cgroup.procs").read_text().split()
    }
    assert inside == {str(now.pid)}
