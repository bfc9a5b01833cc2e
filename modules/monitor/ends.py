"""Runs on the managed host: how a container ended, from the monitor that alone can know it, on hosts however slow."""

from __future__ import annotations

import time

from . import orphan, state
from .state import State

SECONDS = 60.0
"""How long a monitor may take to write down an end, on a host that has much else to do."""


def written(folder: str, ended: State) -> State | None:
    """What the monitor of a container that has just ended writes, or has written; None: nobody has, or will."""
    deadline = time.monotonic() + SECONDS
    pause = 0.002
    while True:
        # Looked at first: of a monitor that has gone since, what it wrote is there.
        works = ended.watched and not state.halted(ended.monitor)
        again = state.read(folder)
        if again is not None and (again.pid, again.status) != (ended.pid, ended.status):
            return again
        if not works or time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def late(folder: str, now: State) -> State | None:
    """The end of a container whose monitor has not said in time that it is over; None: its monitor was ended.

    How it ended only its monitor can know. So the container is ended first, and the monitor has time to write that
    down, unless it is stopped: a host that has much else to do is no reason to lose an exit code.
    """
    try:
        with state.changing(folder, wait=False) as stored:
            if stored is not None:
                stored.stopped = True
                state.write(folder, stored)
    except (BlockingIOError, FileNotFoundError):
        pass  # who writes there is about to say it, or knows it already
    orphan.end(now, 9, 0)
    end = written(folder, now)
    if end is not None and end.status == state.EXITED:
        return end
    orphan.end_monitor(now)
    return None
