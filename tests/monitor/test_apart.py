"""Runs on the test machine: a monitor's acts that are killed leave it nothing, least of all a lock."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest
from hostctl_host.monitor import apart


@pytest.mark.parametrize("end", ["killed", "failed"])
def test_an_act_that_does_not_end_well_leaves_no_lock(end: str, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()

    def act() -> apart.Answer:
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise OSError("no space left")

    pid = os.fork()
    if pid == 0:  # the monitor, whose descriptors the acts have in common with it
        status = 1
        try:
            apart.start(act)
            fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
