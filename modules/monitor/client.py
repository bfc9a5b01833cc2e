"""Runs on the managed host, in the agent: what can be done with a container: start, stop, look, remove.

A container is a folder `DATA/containers/NAME` with its bundle; whether it runs is asked of its state
file and the kernel, so that everything here works whether its monitor lives or was killed.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from ..agent.paths import Paths
from ..contract.errors import HostctlError
from ..contract.fields import LONGEST
from ..runtime.handshake import revive
from . import control, ends, files, orphan, starter, state
from .state import State

if TYPE_CHECKING:
    from ..runtime import cgroup

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
REST_SECONDS = 0.025


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
        # The run folder went with a reboot; this was written when it last started or ended.
        found = state.read(paths.container(name)) or State(name)
        # One that lives on without its folder can be asked nothing.
        found.monitor = found.monitor_start = 0
    if found.status == state.RUNNING and not state.container_alive(found):
        written = ends.written(paths.container_run(name), found)
        if written is not None:
            return written
        found.status, found.exit_code, found.lost = state.EXITED, None, True
        found.pid = found.start_time = 0
    elif found.status == state.RESTARTING and not _monitored(found):
        found.status = state.EXITED
    return found


def stop(paths: Paths, name: str, signal: int | None = None, grace: float | None = None) -> State:
    """Stop signal, grace period, KILL; then it is `exited` and not started again. Twice is fine."""
    settings = files.settings(paths, name)
    seconds = min(LONGEST, settings.stop_grace if grace is None else grace)
    request: dict[str, Any] = {"verb": "stop", "grace": seconds}
    if signal is not None:
        request["signal"] = signal
    answered, lock = _ask_or_lock(paths, name, request, seconds + ANSWER_SECONDS)
    if answered is not None:
        return answered
    try:
        return _stop_orphan(paths, name, signal or settings.stop_signal, seconds)
    finally:
        if lock >= 0:
            os.close(lock)


def _stop_orphan(paths: Paths, name: str, signal: int, grace: float) -> State:
    """The same where there is no monitor, and none can come."""
    found = state.read(paths.container_run(name))
    if found is None:
        orphan.release(paths, name)
        return State(name)
    return orphan.stop(paths, name, found, signal, grace)


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

    own = cgroup.Cgroup(files.cgroup_path(paths, name), _hierarchies())
    cgroup.update(own, resources)


def settle(paths: Paths, name: str, seconds: float) -> State:
    """The state after the container's first moments.

    They are over when it has ended, when it has come to rest (for `REST_SECONDS` nothing in it used the
    processor, and its first process waits for neither that nor a disk), or after so many seconds.
    """
    from ..runtime import cgroup, cgroup_stats, syscalls

    now = status(paths, name)
    if now.status != state.RUNNING:
        return now
    try:
        pidfd = syscalls.pidfd_open(now.pid)
    except ProcessLookupError:
        return status(paths, name)
    own = cgroup.Cgroup(files.cgroup_path(paths, name), _hierarchies())
    deadline = time.monotonic() + seconds
    used = cgroup_stats.cpu_time(own)
    try:
        while not orphan.ended(pidfd, min(REST_SECONDS, deadline - time.monotonic())):
            before, used = used, cgroup_stats.cpu_time(own)
            # A host that does not count says 0: there only the time decides.
            if time.monotonic() >= deadline or (used == before > 0 and state.sleeps(now.pid)):
                break
    finally:
        os.close(pidfd)
    return status(paths, name)


@functools.cache
def _hierarchies() -> cgroup.Hierarchies:
    """Read once a run: an apply of many containers asks often."""
    from ..runtime import cgroup

    return cgroup.detect()


def remove(paths: Paths, name: str) -> None:
    """End it at once if it runs, and remove all that it has in the kernel and in the run folder.

    Its data folder is the caller's to remove, afterwards. Twice is fine.
    """
    from ..runtime import cgroup

    request = {"verb": "stop", "signal": 9, "grace": 0}
    answered: State | None = State(name)
    while answered is not None:  # its monitor lives on for a moment
        answered, lock = _ask_or_lock(paths, name, request, ANSWER_SECONDS)
    try:
        _stop_orphan(paths, name, 9, 0)
        _remove_folder(paths.container_run(name))
    finally:
        if lock >= 0:
            os.close(lock)
    cgroup.prune(paths.run)


def _remove_folder(folder: str) -> None:
    while True:
        try:
            for entry in os.listdir(folder):
                os.unlink(os.path.join(folder, entry))
            os.rmdir(folder)
            return
        except FileNotFoundError:
            if not os.path.isdir(folder):
                return
        except OSError as error:
            # Who was asked by a killed client may still write down what it was asked for.
            if error.errno != errno.ENOTEMPTY:
                raise


def names(paths: Paths) -> list[str]:
    """All containers of this host, running or not."""
    try:
        return sorted(os.listdir(os.path.join(paths.data, "containers")))
    except FileNotFoundError:
        return []


def _monitored(now: State) -> bool:
    return now.boot_id == state.boot_id() and state.alive(now.monitor, now.monitor_start)


def run(paths: Paths, name: str, hook: dict[str, Any], seconds: float) -> tuple[int, str]:
    """Have the monitor run a program in the container: its exit code, and what it printed last.

    Not this process: whatever enters a container must be out of its reach (`runtime/guard.py`).

    Args:
        hook: a `Hook` as JSON (contract/service.py).
        seconds: after which it is ended.
    Raises:
        HostctlError: it could not be executed, took too long, or there is no monitor.
    """
    request = {"verb": "run", "hook": hook, "seconds": seconds}
    answer = ask(paths, name, request, seconds + ANSWER_SECONDS)
    if answer is None:
        raise no_monitor("run a program in", name)
    return int(answer["exit_code"]), str(answer["output"])


def no_monitor(what: str, name: str) -> HostctlError:
    """The error of an act on the container that its monitor would have to do."""
    return HostctlError(
        f"cannot {what} {name}: its monitor is gone",
        hint="run hostctl apply, which gives it another",
        ref="no-monitor",
    )


def _ask_or_lock(
    paths: Paths, name: str, request: dict[str, Any], seconds: float
) -> tuple[State | None, int]:
    """The state that the monitor answers with; where there is none, its lock.

    With the lock nothing that a killed monitor or agent had begun goes on any more, and nobody starts the
    container. It is -1 where the container has no run folder.

    Raises:
        HostctlError: something holds the lock that neither answers nor ends.
    """
    deadline = time.monotonic() + seconds
    while True:
        answered = _ask_monitor(paths, name, request, seconds)
        if answered is not None:
            return answered, -1
        try:
            lock = files.lock(paths.container_run(name))
        except FileNotFoundError:
            return None, -1
        if lock >= 0:
            return None, lock
        if time.monotonic() > deadline:
            found = state.read(paths.container_run(name))
            if found is not None and _monitored(found):
                # It lives, and cannot be asked: its socket has gone.
                late = ends.late(paths.container_run(name), found)
                if late is not None:
                    return late, -1
                continue
            raise HostctlError(
                f"cannot stop {name}: what its monitor has begun does not end",
                hint="find out what the processes named hostctl-monitor on the host wait for",
                ref="monitor-stuck",
            )
        time.sleep(0.002)


def _ask_monitor(paths: Paths, name: str, request: dict[str, Any], seconds: float) -> State | None:
    """The state that the monitor answers with; None where there is none, or it had to be ended."""
    answer = ask(paths, name, request, seconds)
    return None if answer is None else state.from_json(answer["state"])


def ask(paths: Paths, name: str, request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """The monitor's answer; None where there is no monitor, or it had to be ended."""
    folder = paths.container_run(name)
    path = os.path.join(folder, files.SOCKET)
    try:
        answer = control.ask(path, request, seconds)
    except socket.timeout:
        found = state.read(folder)
        if found is None:
            return None
        if request["verb"] == "stop":
            late = ends.late(folder, found)
            return None if late is None else {"state": state.to_json(late)}
        if not _answers(path):
            orphan.end_monitor(found)
        return None
    except (FileNotFoundError, ConnectionError):
        return None
    return _checked(answer, name)


def _answers(path: str) -> bool:
    """Whether the monitor answers at all: then what it was asked for only takes longer."""
    try:
        control.ask(path, {"verb": "status"}, ANSWER_SECONDS)
    except socket.timeout:
        return False
    except (FileNotFoundError, ConnectionError):
        pass  # it ends by itself
    return True


def _ask_zygote(paths: Paths, name: str, verb: str) -> State:
    deadline = time.monotonic() + START_SECONDS
    crash = os.path.join(paths.container_run(name), files.CRASH)
    before = _written(crash)
    while True:
        try:
            answer = _ask_or_start_zygote(paths, starter.request(paths, name, verb))
        except socket.timeout as error:
            raise HostctlError(
                f"cannot {verb} {name}: no answer after {START_SECONDS:g} s", ref="monitor-silent"
            ) from error
        except (FileNotFoundError, ConnectionError) as error:
            # The zygote, or the monitor just forked, was killed. Whatever it had begun is found again.
            if _written(crash) != before:
                with open(crash, encoding="utf-8", errors="replace") as text:
                    why = text.readline().strip()
                raise HostctlError(
                    f"cannot {verb} {name}: its monitor failed: {why}",
                    hint=f"where it failed is in {crash} on the host; please report it",
                    ref="monitor-crashed",
                ) from error
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
        return state.from_json(_checked(answer, name)["state"])


def _written(path: str) -> int:
    """When a file was last written (ns); 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _ask_or_start_zygote(paths: Paths, line: bytes) -> dict[str, Any]:
    try:
        return control.say(starter.path(paths), line, START_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError):
        starter.ensure(paths)
    return control.say(starter.path(paths), line, START_SECONDS)


def _checked(answer: dict[str, Any], name: str) -> dict[str, Any]:
    version = answer.get("version")
    if version != control.VERSION:
        raise HostctlError(
            f"cannot talk about {name}: its monitor speaks version {version}, this hostctl {control.VERSION}",
            hint="use the newer hostctl that started it; or kill the process hostctl-monitor of this container, "
            "which runs on, and `hostctl apply` gives it another",
            ref="monitor-version",
        )
    if answer.get("error"):
        raise revive(answer["error"])
    return answer
