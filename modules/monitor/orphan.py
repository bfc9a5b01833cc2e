"""Runs on the managed host, in the agent: a container whose monitor is gone: ended and cleaned up by hand."""

from __future__ import annotations

import os
import select

from ..agent.paths import Paths
from ..runtime import cgroup, syscalls
from . import files, state


def stop(paths: Paths, name: str, old: state.State, signal: int, grace: float) -> state.State:
    """Stop it as its monitor would have done. How it ended is lost: it is not our child."""
    if state.container_alive(old):
        try:
            pidfd = syscalls.pidfd_open(old.pid)
        except ProcessLookupError:
            pidfd = -1
        if pidfd >= 0:
            try:
                # The number may have been given away between the look and the open.
                if state.container_alive(old):
                    _end(pidfd, signal, grace)
            finally:
                os.close(pidfd)
    return clean(paths, name, old, stopped=True)


def _end(pidfd: int, signal: int, grace: float) -> None:
    for number, wait in ((signal, grace), (9, 5.0)):
        try:
            syscalls.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        if ended(pidfd, wait):
            return


def ended(pidfd: int, wait: float) -> bool:
    """Whether the process ends within so many seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0, int(wait * 1000))))


def clean(paths: Paths, name: str, old: state.State, *, stopped: bool = False) -> state.State:
    """Remove what the container left in the kernel, and write down that it has ended."""
    release(paths, name)
    if old.status in (state.RUNNING, state.RESTARTING):
        old.lost = old.status == state.RUNNING
        old.exit_code = None if old.lost else old.exit_code
        old.status, old.finished_at = state.EXITED, state.now()
    old.pid = old.start_time = old.monitor = old.monitor_start = 0
    old.stopped = old.stopped or stopped
    folder = paths.container_run(name)
    if os.path.isdir(folder):
        state.write(folder, old)
    return old


def release(paths: Paths, name: str) -> None:
    """The cgroup with all that is in it, and the container's names; twice is fine."""
    from ..net import endpoint

    cgroup.release(cgroup.Cgroup(cgroup.container_path(paths.run, name), cgroup.detect()))
    endpoint.withdraw_names(paths, files.network(paths, name), name)


def end_monitor(old: state.State, wait: float = 5.0) -> None:
    """End a monitor that does not answer, so that its container can be dealt with."""
    if not (old.boot_id == state.boot_id() and state.alive(old.monitor, old.monitor_start)):
        return
    pidfd = syscalls.pidfd_open(old.monitor)
    try:
        if state.alive(old.monitor, old.monitor_start):
            syscalls.pidfd_send_signal(pidfd, 9)
            ended(pidfd, wait)
    finally:
        os.close(pidfd)
