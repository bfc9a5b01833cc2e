"""One run at a time, with the holder shown, and gone with its holder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostctl_host.agent import lock
from hostctl_host.contract.report import HostStatus

from .test_run import note
from .wire import World, document


def test_the_second_run_says_who_holds_the_lock(world: World) -> None:
    with world.start("apply", "--holder", "ann@desk") as first:
        first.read_until("hello")
        _wait_for_holder(world)
        for mode in ("apply", "plan"):
            with world.start(mode) as second:
                holder = second.read_until("locked")["holder"]
            assert second.process.returncode == 1
            assert holder["who"] == "ann@desk"
            assert holder["pid"] == first.process.pid
            assert holder["action"] == "apply"
            assert holder["host"] == os.uname().nodename
            assert abs(holder["since"] - time.time()) < 60


class Gone:
    """A channel: what was sent, and who wants to know of its end."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.notify: list[Callable[[], None]] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.sent.append({"type": kind, **fields})

    def on_gone(self, handler: Callable[[], None]) -> None:
        self.notify.append(handler)


def test_a_holder_whose_controller_is_gone_says_that_it_ends(tmp_path: Path) -> None:
    """It goes on until what it is doing is done; who is refused meanwhile need not wait for long."""
    run, channels = str(tmp_path / "run"), [Gone() for _ in range(3)]

    def acquire(channel: Gone) -> lock.Lock | None:
        return lock.acquire(
            run,
            exclusive=True,
            who="ann@desk",
            action="apply",
            wait=0,
            channel=channel,  # type: ignore[arg-type]
        )

    first = acquire(channels[0])
    assert first is not None
    channels[0].notify[0]()
    assert acquire(channels[1]) is None
    holder = channels[1].sent[-1]["holder"]
    assert (holder["who"], holder["pid"]) == ("ann@desk", os.getpid())
    assert holder["action"] == (
        "apply; its controller has gone, and it ends after what it is doing"
    )
    first.release()
    last = acquire(channels[2])
    assert last is not None
    before = (tmp_path / "run" / "lock").read_text()
    channels[0].notify[0]()  # too late: the lock is another's
    assert (tmp_path / "run" / "lock").read_text() == before
    last.release()


def test_the_second_run_waits_for_the_first(world: World, tmp_path: Path) -> None:
    with world.start("apply", "--holder", "ann@desk") as first:
        first.read_until("hello")
        _wait_for_holder(world)
        with world.start("apply", "--lock-wait", "20") as second:
            assert second.read_until("waiting")["holder"]["who"] == "ann@desk"
            first.run(document(note(tmp_path / "a")))
            first.process.stdin.close()
            report = second.run(document(note(tmp_path / "b")))
        assert report.status is HostStatus.OK
        assert [f["type"] for f in second.seen[:2]] == ["hello", "waiting"]


def test_the_lock_ends_with_a_killed_holder(world: World, tmp_path: Path) -> None:
    with world.start("apply", "--holder", "ann@desk") as first:
        first.read_until("hello")
        _wait_for_holder(world)
        first.process.kill()
        first.process.wait()
        assert world.apply(note(tmp_path / "a")).status is HostStatus.OK


def test_plans_share_the_lock_and_make_none(world: World, tmp_path: Path) -> None:
    world.apply(note(tmp_path / "a"))
    with world.start("plan") as first:
        first.read_until("hello")
        assert world.plan(note(tmp_path / "a")).status is HostStatus.OK
        first.run(document(note(tmp_path / "a")))


def test_a_waiting_run_leaves_with_its_controller(world: World) -> None:
    with world.start("apply") as first:
        first.read_until("hello")
        _wait_for_holder(world)
        with world.start("apply", "--lock-wait", "60") as second:
            second.read_until("waiting")
            second.process.stdin.close()
            second.process.wait(5)


def _wait_for_holder(world: World) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        path = world.run / "lock"
        if path.exists() and path.read_text().endswith("}"):
            return
        time.sleep(0.01)
    raise AssertionError("nobody took the lock")
