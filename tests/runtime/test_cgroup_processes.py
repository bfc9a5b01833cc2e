"""Processes in cgroups: pausing, signals, and their end; on this machine's hierarchies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import (
    cgroup,
    cgroup_freeze,
    syscalls,
)
from hostctl_host.runtime.cgroup import Cgroup

from tests.runtime.workshop import start_in, until

pytestmark = pytest.mark.root


def test_pausing(either: Cgroup) -> None:
    script = "while :; do echo x; sleep 0.01; done"
    process = subprocess.Popen(
        ["sh", "-c", script], preexec_fn=either.enter, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout and process.stdout.readline()
        assert not cgroup_freeze.frozen(either)
        cgroup_freeze.freeze(either)
        cgroup_freeze.freeze(either)
        assert cgroup_freeze.frozen(either)
        os.set_blocking(process.stdout.fileno(), False)
        process.stdout.read()
        time.sleep(0.1)
        assert not process.stdout.read()
        cgroup_freeze.thaw(either)
        assert not cgroup_freeze.frozen(either)
        until(process.stdout.read)
        cgroup_freeze.freeze(either)
    finally:
        # A paused one can be ended like any other.
        cgroup.release(either)
        process.wait(5)
        assert process.stdout
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(HostctlError, match="cannot pause"):
        cgroup_freeze.freeze(either)


def test_processes_and_signals_reach_all_below(either: Cgroup) -> None:
    """A container may make cgroups of its own."""
    inner = Cgroup(f"{either.path}/inner/deep", either.hierarchies)
    cgroup.make(inner)
    ignored = start_in(either, "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    below = start_in(inner, "sleep", "100")
    assert {ignored.pid, below.pid} <= either.processes()
    time.sleep(0.1)
    either.signal(signal.SIGTERM)
    assert below.wait(5) == -signal.SIGTERM
    assert ignored.poll() is None
    cgroup.release(either)
    assert ignored.wait(5) == -signal.SIGKILL
    assert not [folder for folder in either.folders() if os.path.isdir(folder)]


def test_processes_that_fork_all_the_time_end(either: Cgroup) -> None:
    process = start_in(either, "sh", "-c", "while :; do sleep 60 & (sleep 60 &) ; done")
    until(lambda: len(either.processes()) > 30)
    cgroup.release(either)
    process.wait(5)
    assert not either.processes()


@pytest.mark.parametrize("top", ["hostctl/", ""])
def test_who_is_born_where_all_were_killed_before_lives(top: str) -> None:
    """Kernels since 6.14 would kill what clone3(2) makes in such a cgroup of version 2."""
    path = f"{top}test-{uuid.uuid4().hex[:12]}"
    first = cgroup.prepare(path, {})
    try:
        Path(first.hierarchies.v2, path, "cgroup.kill").write_text("1")
        second = cgroup.prepare(path, {})
        fd = second.open()
        pid = syscalls.clone(0, fd)
        if pid == 0:
            try:
                second.enter()
                os._exit(5)
            finally:
                os._exit(1)
        if fd >= 0:
            os.close(fd)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    finally:
        cgroup.release(first)


def test_a_cgroup_of_somebody_else_is_left_alone() -> None:
    """Outside hostctl's own subtree: nothing that is in it ends, nothing starts in a frozen one."""
    other = Cgroup(f"hostctl-test-{uuid.uuid4().hex[:12]}", cgroup.detect())
    cgroup.make(other)
    process = start_in(other, "sleep", "100")
    try:
        with pytest.raises(HostctlError, match=f"process {process.pid} is in it"):
            cgroup.prepare("/" + other.path, {})
        assert process.poll() is None
        process.kill()
        process.wait(5)
        cgroup_freeze.freeze(other)
        with pytest.raises(HostctlError, match="it is frozen"):
            cgroup.prepare(other.path, {})
    finally:
        process.kill()
        process.wait(5)
        cgroup.release(other)
