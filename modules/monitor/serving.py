"""Runs on the managed host, in children of a monitor: answers its clients, and looks at the container's health."""

from __future__ import annotations

import _socket
import os
import time

from ..contract.errors import HostctlError
from ..runtime import cgroup, syscalls
from ..runtime.handshake import describe
from . import apart, control, health, orphan, program, state
from .place import Place
from .state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KILL = 9
_STEP = 0.005
_LATEST = 20.0


def accept_at(listener: int) -> int | None:
    own = _socket.socket(fileno=listener)
    try:
        return own._accept()[0]  # type: ignore[attr-defined,no-any-return]
    except OSError:
        return None  # the client has gone already
    finally:
        own.detach()


def accept() -> int | None:
    """A client of this monitor."""
    return accept_at(apart.CONTROL)


def serve(line: bytes, peer: int) -> None:
    """Answer one client, in a process of its own. Lock and socket are the monitor's: not held here."""
    os.close(apart.LOCK)
    os.close(apart.CONTROL)
    place = Place(line)
    client = control.Peer(peer)
    try:
        request = client.request()
        verb = request.get("verb")
        control.check(request)
        more: dict[str, object] = {}
        if verb == "stop":
            _stop(place, request)
        elif verb == "wait":
            while not _over(place.folder()):
                time.sleep(0.02)
        elif verb == "kill":
            _signal(place, int(request.get("signal") or _KILL))
        elif verb == "run":
            more = _run(place, request)
        elif verb == "attach":
            os.write(apart.WAKER, b"a%d\n" % int(request["number"]))
        elif verb == "rotate":
            os.write(apart.WAKER, b"r%d\n" % int(request["size"]))
        elif verb == "update":
            cgroup.update(place.cgroup(), dict(request.get("resources") or {}))
        elif verb != "status":
            raise HostctlError(
                f"cannot {verb}: this monitor does not know that", ref="unknown-verb"
            )
        now = state.read(place.folder()) or State(place.name)
        client.answer({"state": state.to_json(now), **more})
    except _MonitorGone:
        return  # without an answer, which says that nobody looks after the container
    except (HostctlError, OSError, KeyError, TypeError, ValueError) as error:
        client.answer({"error": describe(error)})


def _run(place: Place, request: dict[str, Any]) -> dict[str, object]:
    """A program in the container, for whoever must not enter it himself: see `runtime/guard.py`."""
    now = state.read(place.folder())
    if now is None or now.status != state.RUNNING:
        raise HostctlError(
            f"cannot run a program in {place.name}: it is not running", ref="not-running"
        )
    hook, seconds = dict(request["hook"]), float(request["seconds"])
    wanted = program.plan(
        place.paths(),
        place.name,
        [str(word) for word in hook["command"]],
        env=[f"{key}={value}" for key, value in (hook.get("environment") or {}).items()],
        cwd=str(hook.get("working_dir") or ""),
        user=str(hook.get("user") or ""),
        privileged=bool(hook.get("privileged")),
    )
    try:
        code, output = program.run(place.paths(), place.name, now.pid, wanted, seconds)
    except program.TooLong:
        raise HostctlError(f"it took more than {seconds:g} s", ref="too-long") from None
    return {"exit_code": code, "output": output}


class _MonitorGone(Exception):
    """The monitor that we answer for was killed."""


def _over(folder: str) -> bool:
    """Whether the container has ended for good, as its monitor has written down."""
    now = state.read(folder)
    if now is None or now.status == state.EXITED:
        return True
    if not now.watched:
        raise _MonitorGone
    return False


def _signal(place: Place, number: int) -> None:
    settings = place.settings()
    with state.changing(place.folder()) as now:
        if now is None:
            return
        if number in (_KILL, settings.stop_signal):
            now.stopped = True
            state.write(place.folder(), now)
    _send(now, number)


def _send(now: State, number: int) -> None:
    try:
        pidfd = syscalls.pidfd_open(now.pid)
    except OSError:
        return
    try:
        if state.container_alive(now):
            syscalls.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _stop(place: Place, request: dict[str, Any]) -> None:
    """Signal, grace period, KILL; returns when the monitor has written down the end."""
    settings = place.settings()
    number = int(request.get("signal") or settings.stop_signal)
    grace = request.get("grace")
    kill_at = time.monotonic() + (settings.stop_grace if grace is None else float(grace))
    latest = kill_at + _LATEST
    signalled = killed = 0
    monitor = 0
    with state.changing(place.folder()) as now:
        if now is not None:
            now.stopped = True
            monitor = now.monitor
            state.write(place.folder(), now)
    pause = 0.0005
    while not _over(place.folder()) and time.monotonic() < latest:
        now = state.read(place.folder())
        if now is None or now.monitor != monitor:
            return  # it has ended, and somebody has started or adopted it meanwhile
        if now.status == state.RESTARTING:
            os.write(apart.WAKER, b"s\n")
        elif now.pid and now.pid != signalled:
            _send(now, number)
            signalled = now.pid
        if now.pid and now.pid != killed and time.monotonic() >= kill_at:
            _send(now, _KILL)
            killed = now.pid
        time.sleep(pause)
        pause = min(pause * 1.5, _STEP)


def probe(line: bytes) -> None:
    """Look at the container's health, in a process of its own; lock and socket are the monitor's."""
    os.close(apart.LOCK)
    os.close(apart.CONTROL)
    place = Place(line)
    settings = place.settings()
    now = state.read(place.folder())
    check = settings.healthcheck
    if check is None or now is None or now.status != state.RUNNING:
        return
    pid = now.pid
    seen = health.look(place.paths(), place.name, pid, check)
    with state.changing(place.folder()) as now:
        if now is None or now.pid != pid:
            return
        wait = health.judge(now, seen, check)
        ill = now.health is not None and now.health["status"] == health.UNHEALTHY
        now.ill = ill and settings.restart_on == health.UNHEALTHY and not now.stopped
        state.write(place.folder(), now)
    probe_in(wait)
    if now.ill:  # the monitor starts it again
        orphan.end(now, settings.stop_signal, settings.stop_grace)


def probe_in(seconds: float) -> None:
    """Tell the monitor when the next look at the container's health is due."""
    os.write(apart.WAKER, b"p%d\n" % int(seconds * 1000))
