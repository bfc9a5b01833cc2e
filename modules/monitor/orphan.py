"""Runs on the managed host: ends a container, and cleans up by hand after one whose monitor is gone."""

from __future__ import annotations

import os
import select

from ..agent.paths import Paths
from ..contract.errors import HostctlError
from ..runtime import cgroup, hooks, stand_in, syscalls
from ..runtime.config import RUNTIME, annotation
from . import files, state


def stop(paths: Paths, name: str, old: state.State, signal: int, grace: float) -> state.State:
    """Stop it as its monitor would have done. How it ended is lost: it is not our child."""
    end(old, signal, grace)
    return clean(paths, name, old, stopped=True)


def end(now: state.State, signal: int, grace: float) -> None:
    """Signal, grace period (seconds), KILL; what has ended already is left alone."""
    if not state.container_alive(now):
        return
    try:
        pidfd = syscalls.pidfd_open(now.pid)
    except ProcessLookupError:
        return
    try:
        # The number may have been given away between the look and the open.
        if state.container_alive(now):
            _end(pidfd, signal, grace)
    finally:
        os.close(pidfd)


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
    hung = release(paths, name)
    if old.status == state.RUNNING:
        poststop(paths, name)
    if old.status in (state.RUNNING, state.RESTARTING):
        old.lost = old.status == state.RUNNING
        old.exit_code = None if old.lost else old.exit_code
        old.status, old.finished_at = state.EXITED, state.now()
        old.stopped = old.stopped or stopped
    old.error = hung or old.error
    old.pid = old.start_time = old.monitor = old.monitor_start = 0
    if os.path.isdir(paths.container(name)):
        state.keep(paths.container(name), old)
    folder = paths.container_run(name)
    if os.path.isdir(folder):
        state.write(folder, old)
    return old


def poststop(paths: Paths, name: str) -> None:
    """Run the hooks that its bundle has for the moment after its end; one that fails leaves word of it."""
    try:
        config = files.load(paths, name)
        told = hooks.prepare(config, name, files.bundle(paths, name))
    except HostctlError:  # it is being removed
        return
    if told is None or annotation(config, RUNTIME):  # the other runtime has run them
        return
    failures = told.run_poststop()
    if failures:
        path = os.path.join(paths.container_run(name), "monitor.warnings")
        with open(path, "w", encoding="utf-8", opener=files.private) as stream:
            stream.write("".join(f"{failure}\n" for failure in failures))


def release(paths: Paths, name: str) -> str:
    """The cgroup with all that is in it, and the container's names; twice is fine.

    Returns:
        That the runtime of the host that had made it hung, in words; else empty.
    """
    from ..net import endpoint

    hung = stand_in.clear(paths.container(name))
    cgroup.release(cgroup.Cgroup(files.cgroup_path(paths, name), cgroup.detect()))
    endpoint.withdraw_names(paths, files.network(paths, name), name)
    return hung


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
