"""Runs on the managed host, in short-lived children of a monitor: the acts on one container.

Each reads what is so from disk, acts, and writes it back; a word and descriptors go to the monitor:
`run PID` (with pidfd, DNS connection, sockets), `wait MILLISECONDS` until the next start, or `end`.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import socket
import time

from ..agent.paths import Paths
from ..contract.errors import HostctlError
from ..runtime import cgroup, syscalls
from ..runtime.config import RuntimeFailure
from ..runtime.container import create
from ..runtime.handshake import describe
from ..runtime.init import exit_code
from . import control, files, state
from .apart import Answer
from .endpoints import Endpoints
from .restart import backoff
from .state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

END: Answer = (b"end", [])
_KILL = 9
_STEP = 0.005
_LATEST = 20.0


class Place:
    """Which container, and where: from the line that asked for its monitor."""

    def __init__(self, line: bytes) -> None:
        self.verb, self.name, self.data, self.run = line.decode().split("\0")
        self.log_folder = f"{self.data}/containers/{self.name}/log"

    def paths(self) -> Paths:
        return Paths(self.data, self.run)

    def folder(self) -> str:
        return self.paths().container_run(self.name)

    def cgroup(self) -> cgroup.Cgroup:
        return cgroup.Cgroup(cgroup.container_path(self.run, self.name), cgroup.detect())

    def endpoints(self) -> Endpoints:
        return Endpoints(self.paths(), self.name, files.network(self.paths(), self.name))


def _told(step: Callable[..., Answer]) -> Callable[..., Answer]:
    """A step that fails leaves word of it: nobody reads a monitor's stderr."""

    def run(line: bytes, *args: Any) -> Answer:
        place = Place(line)
        try:
            return step(place, *args)
        except BaseException as error:
            path = os.path.join(place.folder(), "monitor.crash")
            with open(path, "w", encoding="utf-8", opener=_private) as crash:
                crash.write(f"{type(error).__name__}: {error}\n")
                at = error.__traceback__
                while at is not None:
                    code = at.tb_frame.f_code
                    crash.write(f"  {code.co_filename}:{at.tb_lineno} {code.co_name}\n")
                    at = at.tb_next
            raise

    return run


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def begin(listener: int, waiting: int) -> Answer:
    """The first act of a monitor: read the request, start or adopt, and answer the client.

    Its descriptors are the lock, stdout, stderr, the control socket, then those of `run`. Its word goes
    on with the log's limits and the request.
    """
    try:
        peer = accept(listener)
    except OSError:
        return END
    finally:
        _call_next(waiting)
    os.close(listener)
    client = control.Peer(socket.socket(fileno=peer))
    line = client.line()
    return _begin(line, client) if line else END


def _call_next(waiting: int) -> None:
    """The zygote's next one waits from now on. A zygote that was killed has none."""
    try:
        os.write(waiting, b"n")
    except BrokenPipeError:
        pass
    os.close(waiting)


@_told
def _begin(place: Place, client: control.Peer) -> Answer:
    lock = -1
    try:
        settings, lock = _settle(place)
        found = files.open_pipes(place.folder())
        listener = control.listen(place.folder(), files.SOCKET)
        word, fds = _adopt(place) if place.verb == "adopt" else _first(place)
    except (HostctlError, OSError) as error:
        if lock >= 0:
            os.close(lock)
        client.answer({"error": describe(error)})
        return END
    now = state.read(place.folder()) or State(place.name)
    client.answer({"state": state.to_json(now)})
    line = f"{place.verb}\0{place.name}\0{place.data}\0{place.run}".encode()
    whole = b"%s %d %d %s" % (word, settings.log_max_size, settings.log_max_file, line)
    return whole, [lock, found["stdout"], found["stderr"], listener.detach(), *fds]


def _settle(place: Place) -> tuple[files.Settings, int]:
    os.makedirs(place.folder(), 0o700, exist_ok=True)
    lock = _lock(os.path.join(place.folder(), files.LOCK), place.name)
    os.makedirs(place.log_folder, 0o700, exist_ok=True)
    return files.settings(place.paths(), place.name), lock


def _lock(path: str, name: str) -> int:
    """At most one monitor per container, for as long as that one lives."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise RuntimeFailure(
            f"cannot start {name}: it has a monitor already", ref="already-running"
        ) from None
    return fd


def _first(place: Place) -> Answer:
    own = os.getppid()
    now = State(
        place.name, monitor=own, monitor_start=state.start_time(own), boot_id=state.boot_id()
    )
    state.write(place.folder(), now)
    try:
        return _launch(place, now)
    except HostctlError as error:
        _failed(now, error)
        _conclude(place, now)
        raise


def _adopt(place: Place) -> Answer:
    now = state.read(place.folder()) or State(place.name)
    own = os.getppid()
    pidfd = syscalls.pidfd_open(now.pid)
    if not state.container_alive(now):
        raise RuntimeFailure(f"cannot adopt {place.name}: it has ended", ref="not-running")
    fds = place.endpoints().adopt(now.pid)
    now.monitor, now.monitor_start = own, state.start_time(own)
    state.write(place.folder(), now)
    return b"run %d" % now.pid, [pidfd, *fds]


def _launch(place: Place, now: State) -> Answer:
    """Make the container as a child of the monitor, and let it run."""
    paths = place.paths()
    endpoints = place.endpoints()
    try:
        container = create(
            files.load(paths, place.name),
            files.bundle(paths, place.name),
            cgroup_path=cgroup.container_path(place.run, place.name),
            stdio=files.open_stdio(place.folder()),
            network=endpoints,
            sibling=True,
        )
        try:
            container.start()
            fds = endpoints.publish(container.pid, container.sockets)
        except BaseException:
            container.release()
            endpoints.withdraw()
            raise
    except OSError as error:
        raise RuntimeFailure(
            f"cannot start {place.name}: {error}", ref="container-failed"
        ) from error
    with state.changing(place.folder()) as stored:
        now.stopped = stored.stopped if stored else False
        now.status, now.pid = state.RUNNING, container.pid
        now.start_time = state.start_time(container.pid)
        now.started_at, now.error, now.oom = state.now(), "", False
        state.write(place.folder(), now)
    return b"run %d" % container.pid, [container.pidfd, *fds]


def _failed(now: State, error: HostctlError) -> None:
    now.exit_code = getattr(error, "code", 125)
    now.error, now.lost = error.message, False
    now.finished_at = state.now()


@_told
def ended(place: Place, status: int) -> Answer:
    """The first process has ended with that wait status, or -1 where it was not ours to wait for."""
    own = place.cgroup()
    oom = own.oom_kills() > 0
    cgroup.release(own)
    place.endpoints().withdraw()
    with state.changing(place.folder()) as stored:
        now = stored or State(place.name)
        now.oom, now.error = oom, ""
        now.lost = status == -1
        now.exit_code = None if now.lost else exit_code(status)
        now.finished_at = state.now()
        ran = now.finished_at - now.started_at
        return _next(place, now, failed=now.exit_code != 0, ran=ran)


@_told
def again(place: Place) -> Answer:
    """The wait is over: start it again, unless somebody has asked it to stop meanwhile."""
    with state.changing(place.folder()) as stored:
        now = stored or State(place.name)
        if now.stopped:
            return _conclude(place, now)
        now.restarts += 1
        state.write(place.folder(), now)
    try:
        return _launch(place, now)
    except HostctlError as error:
        with state.changing(place.folder()) as stored:
            now.stopped = stored.stopped if stored else False
            _failed(now, error)
            return _next(place, now, failed=True, ran=0.0)


def _next(place: Place, now: State, *, failed: bool, ran: float) -> Answer:
    policy = files.settings(place.paths(), place.name).policy
    if not policy.restarts(failed=failed, stopped=now.stopped, already=now.restarts):
        return _conclude(place, now)
    now.wait = backoff(now.wait, ran)
    now.status, now.pid, now.start_time = state.RESTARTING, 0, 0
    state.write(place.folder(), now)
    return b"wait %d" % int(now.wait * 1000), []


def _conclude(place: Place, now: State) -> Answer:
    """The container's end for good, and so the monitor's."""
    now.status, now.pid, now.start_time = state.EXITED, 0, 0
    now.monitor = now.monitor_start = 0
    now.wait = 0.0
    try:
        os.unlink(os.path.join(place.folder(), files.SOCKET))
    except FileNotFoundError:
        pass
    state.write(place.folder(), now)
    return END


@_told
def restore(place: Place, pid: int, sockets: list[int]) -> Answer:
    """The DNS process has gone: another one gets the sockets. No descriptor: it could not be had."""
    try:
        return b"", place.endpoints().serve(sockets, pid)[:1]
    except OSError:
        return b"", []


def accept(listener: int) -> int:
    """A client's descriptor. Raises BlockingIOError where it has gone already."""
    own = _socket.socket(fileno=listener)
    try:
        return own._accept()[0]  # type: ignore[attr-defined,no-any-return]
    finally:
        own.detach()


def serve(line: bytes, peer: int, waker: int, lock: int) -> None:
    """Answer one client, in a process of its own. The lock is the monitor's: not held here."""
    os.close(lock)
    place = Place(line)
    client = control.Peer(socket.socket(fileno=os.dup(peer)))
    os.close(peer)
    try:
        request = client.request()
        verb = request.get("verb")
        if verb == "stop":
            _stop(place, request, waker)
        elif verb == "wait":
            while not _over(place):
                time.sleep(0.02)
        elif verb == "kill":
            _signal(place, int(request.get("signal") or _KILL))
        elif verb == "update":
            cgroup.update(place.cgroup(), dict(request.get("resources") or {}))
        elif verb != "status":
            raise HostctlError(
                f"cannot {verb}: this monitor does not know that", ref="unknown-verb"
            )
        client.answer({"state": state.to_json(state.read(place.folder()) or State(place.name))})
    except (HostctlError, OSError, TypeError, ValueError) as error:
        client.answer({"error": describe(error)})


def _over(place: Place) -> bool:
    now = state.read(place.folder())
    return now is None or now.status == state.EXITED


def _signal(place: Place, number: int) -> None:
    settings = files.settings(place.paths(), place.name)
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


def _stop(place: Place, request: dict[str, Any], waker: int) -> None:
    """Signal, grace period, KILL; returns when the monitor has written down the end."""
    settings = files.settings(place.paths(), place.name)
    number = int(request.get("signal") or settings.stop_signal)
    grace = request.get("grace")
    kill_at = time.monotonic() + (settings.stop_grace if grace is None else float(grace))
    latest = kill_at + _LATEST
    signalled = killed = 0
    with state.changing(place.folder()) as now:
        if now is not None:
            now.stopped = True
            state.write(place.folder(), now)
    pause = 0.0005
    while True:
        now = state.read(place.folder())
        if now is None or now.status == state.EXITED or time.monotonic() > latest:
            return
        if now.status == state.RESTARTING:
            os.write(waker, b"x")
        elif now.pid and now.pid != signalled:
            _send(now, number)
            signalled = now.pid
        if now.pid and now.pid != killed and time.monotonic() >= kill_at:
            _send(now, _KILL)
            killed = now.pid
        time.sleep(pause)
        pause = min(pause * 1.5, _STEP)
