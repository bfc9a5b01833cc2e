"""Runs on the managed host, in the agent: what can be done with a container: start, stop, look, remove.

A container is a folder `DATA/containers/NAME` with its bundle; whether it runs is asked of its state
file and the kernel, so that everything here works whether its monitor lives or was killed.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from ..agent.paths import Paths
from ..contract.errors import HostctlError
from ..runtime.handshake import revive
from . import control, files, orphan, starter, state
from .state import State

__all__ = [
    "State",
    "adopt",
    "kill",
    "names",
    "remove",
    "settle",
    "start",
    "status",
    "stop",
    "update",
]

START_SECONDS = 90.0
ANSWER_SECONDS = 10.0


def start(paths: Paths, name: str) -> State:
    """Start the container and return once its program runs; one that runs already is left alone.

    Raises:
        HostctlError: it could not be made or its program not be executed (`code` 125, 126 or 127).
    """
    now = status(paths, name)
    if now.status == state.RUNNING:
        return adopt(paths, name) if not _monitored(now) else now
    if now.status == state.RESTARTING and _monitored(now):
        stop(paths, name, grace=0)  # the wait is over: started anew below
    return _ask_zygote(paths, name, "start")


def adopt(paths: Paths, name: str) -> State:
    """Give a running container whose monitor was killed a new one; harmless where one is there."""
    now = status(paths, name)
    if now.status != state.RUNNING or _monitored(now):
        return now
    return _ask_zygote(paths, name, "adopt")


def status(paths: Paths, name: str) -> State:
    """What is so, checked against the kernel. Reads only.

    A container that ended while it had no monitor is `exited` and `lost` here; `start`, `stop` and
    `remove` clean up what it left.
    """
    found = state.read(paths.container_run(name))
    if found is None:
        return State(name)
    if found.status == state.RUNNING and not state.container_alive(found):
        if _monitored(found):
            # Between the end of the process and the monitor's word about it.
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                time.sleep(0.002)
                again = state.read(paths.container_run(name))
                if again is not None and again.pid != found.pid:
                    return again
        found.status, found.exit_code, found.lost = state.EXITED, None, True
        found.pid = found.start_time = 0
    elif found.status == state.RESTARTING and not _monitored(found):
        found.status = state.EXITED
    return found


def stop(paths: Paths, name: str, signal: int | None = None, grace: float | None = None) -> State:
    """Stop signal, grace period, KILL; then it is `exited` and not started again. Twice is fine."""
    settings = files.settings(paths, name)
    seconds = settings.stop_grace if grace is None else grace
    request: dict[str, Any] = {"verb": "stop", "grace": seconds}
    if signal is not None:
        request["signal"] = signal
    answered = _ask_monitor(paths, name, request, seconds + ANSWER_SECONDS)
    if answered is not None:
        return answered
    found = state.read(paths.container_run(name))
    if found is None:
        orphan.release(paths, name)
        return State(name)
    return orphan.stop(paths, name, found, signal or settings.stop_signal, seconds)


def kill(paths: Paths, name: str, signal: int) -> State:
    """Send a signal to the first process. KILL and the stop signal also forbid a restart."""
    answered = _ask_monitor(paths, name, {"verb": "kill", "signal": signal}, ANSWER_SECONDS)
    if answered is not None:
        return answered
    found = state.read(paths.container_run(name))
    if found is None or not state.container_alive(found):
        raise HostctlError(f"cannot signal {name}: it is not running", ref="not-running")
    from ..runtime import syscalls

    pidfd = syscalls.pidfd_open(found.pid)
    try:
        if state.container_alive(found):
            syscalls.pidfd_send_signal(pidfd, signal)
    finally:
        os.close(pidfd)
    return found


def update(paths: Paths, name: str, resources: dict[str, Any]) -> None:
    """Change the limits of a running container (`linux.resources` of the OCI specification)."""
    from ..runtime import cgroup

    own = cgroup.Cgroup(cgroup.container_path(paths.run, name), cgroup.detect())
    cgroup.update(own, resources)


def settle(paths: Paths, name: str, seconds: float) -> State:
    """The state after the container's first moments: earlier if it ends before."""
    from ..runtime import syscalls

    now = status(paths, name)
    if now.status != state.RUNNING:
        return now
    try:
        pidfd = syscalls.pidfd_open(now.pid)
    except ProcessLookupError:
        return status(paths, name)
    try:
        orphan.ended(pidfd, seconds)
    finally:
        os.close(pidfd)
    return status(paths, name)


def remove(paths: Paths, name: str) -> None:
    """End it at once if it runs, and remove all that it has in the kernel and in the run folder.

    Its data folder is the caller's to remove, afterwards. Twice is fine.
    """
    from ..runtime import cgroup

    folder = paths.container_run(name)
    stop(paths, name, signal=9, grace=0)
    found = state.read(folder)
    if found is not None:
        orphan.end_monitor(found)
    orphan.release(paths, name)
    if os.path.isdir(folder):
        for entry in os.listdir(folder):
            try:
                os.unlink(os.path.join(folder, entry))
            except FileNotFoundError:
                continue
        os.rmdir(folder)
    cgroup.prune(paths.run)


def names(paths: Paths) -> list[str]:
    """All containers of this host, running or not."""
    try:
        return sorted(os.listdir(os.path.join(paths.data, "containers")))
    except FileNotFoundError:
        return []


def _monitored(now: State) -> bool:
    return now.boot_id == state.boot_id() and state.alive(now.monitor, now.monitor_start)


def _ask_monitor(paths: Paths, name: str, request: dict[str, Any], seconds: float) -> State | None:
    """The monitor's answer; None where there is no monitor, or it had to be ended."""
    folder = paths.container_run(name)
    try:
        answer = control.ask(os.path.join(folder, files.SOCKET), request, seconds)
    except socket.timeout:
        found = state.read(folder)
        if found is not None:
            orphan.end_monitor(found)
        return None
    except (FileNotFoundError, ConnectionError):
        return None
    return _state_of(answer)


def _ask_zygote(paths: Paths, name: str, verb: str) -> State:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            answer = _ask_or_start_zygote(paths, starter.request(paths, name, verb))
        except socket.timeout as error:
            raise HostctlError(
                f"cannot {verb} {name}: no answer after {START_SECONDS:g} s", ref="monitor-silent"
            ) from error
        except (FileNotFoundError, ConnectionError) as error:
            # The zygote, or the monitor just forked, was killed. Whatever it had begun is found again.
            if time.monotonic() > deadline:
                raise HostctlError(
                    f"cannot {verb} {name}: its monitor was killed", ref="monitor-killed"
                ) from error
            time.sleep(0.05)
            now = status(paths, name)
            if now.status == state.RUNNING and _monitored(now):
                return now
            verb = "adopt" if now.status == state.RUNNING else "start"
            continue
        if (answer.get("error") or {}).get("ref") == "already-running":
            # A monitor that is about to end, or one that somebody else has just started.
            now = status(paths, name)
            if now.status == state.RUNNING and _monitored(now):
                return now
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
        return _state_of(answer)


def _ask_or_start_zygote(paths: Paths, line: bytes) -> dict[str, Any]:
    try:
        return control.say(starter.path(paths), line, START_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError):
        starter.ensure(paths)
    return control.say(starter.path(paths), line, START_SECONDS)


def _state_of(answer: dict[str, Any]) -> State:
    if answer.get("error"):
        raise revive(answer["error"])
    return state.from_json(answer["state"])
