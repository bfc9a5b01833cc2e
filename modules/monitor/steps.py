"""Runs on the managed host, in short-lived children of a monitor: the acts on one container.

Each reads what is so from disk, acts, and writes it back; a word and descriptors go to the monitor:
`run PID LOG RESOLVER REQUEST`, `wait MILLISECONDS` until the next start, or `end`. LOG is the size at which the
log is rotated, or `j` with the journal's fields in hexadecimal; RESOLVER is 1 where the DNS process serves it;
REQUEST is the line that asked for the monitor, which all later acts are given.
"""

from __future__ import annotations

import fcntl
import os

from ..contract.errors import HostctlError
from ..runtime import apparmor, cgroup, stand_in, syscalls, terminal
from ..runtime.config import RUNTIME, RuntimeFailure, annotation
from ..runtime.container import create
from ..runtime.handshake import describe
from ..runtime.init import exit_code
from . import apart, control, files, health, journal, orphan, peers, rotation, state
from .apart import Answer
from .outputs import attach, grown, rotate
from .place import Place, told
from .restart import backoff
from .serving import accept, accept_at, probe, probe_in, serve
from .state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from ..runtime.container import Container
    from .endpoints import Endpoints

__all__ = [
    "accept",
    "again",
    "attach",
    "begin",
    "ended",
    "grown",
    "probe",
    "restore",
    "rotate",
    "serve",
]

END: Answer = (b"end", {})
_SIGKILL = 9


def begin(client: Callable[[int], bool], waiting: int) -> Answer:
    """The first act of a monitor: wait for a request, start or adopt, and answer who asked."""
    if not client(waiting):
        return END
    peer = accept_at(apart.LISTENER)
    _call_next(waiting)
    os.close(apart.LISTENER)
    if peer is None:
        return END
    asking = control.Peer(peer)
    line = asking.line()
    # Of a client that was killed, nobody knows any more what it wanted.
    return _begin(line, asking) if line and not asking.gone() else END


def _call_next(waiting: int) -> None:
    """The zygote's next one waits from now on. A zygote that was killed has none."""
    try:
        os.write(waiting, b"n")
    except BrokenPipeError:
        pass
    os.close(waiting)


@told
def _begin(place: Place, client: control.Peer) -> Answer:
    lock = -1
    try:
        lock = _settle(place)
        fds = {apart.LOCK: lock, **_lasting(place)}
        word, more = _adopt(place) if place.verb == "adopt" else _first(place)
    except (HostctlError, OSError) as error:
        if lock >= 0:
            os.close(lock)
        client.answer({"error": describe(error)})
        return END
    now = state.read(place.folder()) or State(place.name)
    client.answer({"state": state.to_json(now)})
    return word, {**fds, **more}


def _lasting(place: Place) -> dict[int, int]:
    """What the monitor has open for as long as it lives."""
    pipes = files.open_pipes(place.folder())
    # At once, because the start writes there; everything else at the end.
    for fd, number in zip(os.pipe(), (apart.WAKE, apart.WAKER)):
        os.dup2(fd, number, inheritable=False)
    return {
        apart.STDOUT: pipes["stdout"],
        apart.STDERR: pipes["stderr"],
        apart.CONTROL: control.listen(place.folder(), files.SOCKET).detach(),
        apart.LOG: rotation.opened(place.log_folder, place.settings()),
    }


def _settle(place: Place) -> int:
    """Make the folders; the lock, of which each container's one monitor has hold for as long as it lives."""
    if not os.path.isdir(place.paths().container(place.name)):
        raise RuntimeFailure(f"cannot start {place.name}: it has been removed", ref="no-container")
    os.makedirs(place.folder(), 0o700, exist_ok=True)
    lock = files.lock(place.folder())
    if lock < 0:
        raise RuntimeFailure(
            f"cannot start {place.name}: it has a monitor already", ref="already-running"
        )
    os.makedirs(place.log_folder, 0o700, exist_ok=True)
    return lock


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
    now = state.read(place.folder())
    settings = place.settings()
    if now is None or settings.tty:
        # Its pipes went with the run folder, or its terminal with the monitor that held it.
        last = now or state.read(place.paths().container(place.name)) or State(place.name)
        # Where only the run folder went, its monitor lives, and would take this one's socket with it.
        orphan.end_monitor(last)
        orphan.end(last, settings.stop_signal, settings.stop_grace)
        orphan.release(place.paths(), place.name)
        return _first(place)
    own = os.getppid()
    pidfd = -1
    if state.container_alive(now):
        pidfd = syscalls.pidfd_open(now.pid)
    if pidfd < 0 or not state.container_alive(now):
        raise RuntimeFailure(f"cannot adopt {place.name}: it has ended", ref="not-running")
    fds = place.endpoints().adopt(now.pid)
    now.monitor, now.monitor_start = own, state.start_time(own)
    state.write(place.folder(), now)
    place.keep(now)
    return _runs(place, now.pid, pidfd, fds)


def _runs(place: Place, pid: int, pidfd: int, fds: list[int]) -> Answer:
    """The answer that a container runs; `fds` are its resolver's connection and sockets, or none."""
    settings = place.settings()
    if settings.healthcheck:
        probe_in(health.first_wait(settings.healthcheck))
    word = f"run {pid} {_log(place)} {int(bool(fds))} ".encode() + place.line
    resolver = {apart.RESOLVER + number: fd for number, fd in enumerate(fds)}
    # The monitor waits for this number anyway.
    return word, {apart.PIDFD: pidfd, **(resolver or {apart.RESOLVER: pidfd})}


def _log(place: Place) -> str:
    """LOG of the word."""
    settings = place.settings()
    if settings.log_driver != "journald":
        return str(settings.log_max_size)
    identity = files.identity(place.paths(), place.name)
    common = journal.fields(place.name, identity, settings.log_image, settings.log_tag)
    return "j" + common.hex()


def _launch(place: Place, now: State) -> Answer:
    """Make the container as a child of the monitor, and let it run."""
    endpoints = place.endpoints()
    settings = place.settings()
    try:
        container = _create(place, endpoints)
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
        now.health = health.new(settings.healthcheck)
        state.write(place.folder(), now)
    place.keep(now)
    word, held = _runs(place, container.child, container.pidfd, fds)
    return word, {**held, **_terminal(container.terminal)}


def _terminal(master: int) -> dict[int, int]:
    """What the monitor has of a container's terminal; -1: it has none."""
    if master < 0:
        return {}
    os.set_blocking(master, False)
    return {apart.STDOUT: master, apart.TERMINAL: terminal.peer(master)}


def _create(place: Place, endpoints: Endpoints) -> Container | stand_in.Made:
    """By hostctl's own runtime, or by the host's where config.json says so."""
    paths = place.paths()
    config = peers.resolve(files.load(paths, place.name), paths, place.name)
    config = apparmor.resolve(config, place.run, load=True)
    bundle = files.bundle(paths, place.name)
    path = files.cgroup_path(paths, place.name)
    stdio = files.open_stdio(place.folder(), stdin=place.settings().stdin_open)
    other = annotation(config, RUNTIME)
    if other:
        return stand_in.create(
            other, config, bundle, cgroup_path=path, stdio=stdio, network=endpoints
        )
    return create(config, bundle, cgroup_path=path, stdio=stdio, network=endpoints, sibling=True)


def _failed(now: State, error: HostctlError) -> None:
    now.exit_code = getattr(error, "code", 125)
    now.error, now.lost = error.message, False
    now.finished_at = state.now()


@told
def ended(place: Place, status: int) -> Answer:
    """The first process has ended with that wait status, or -1 where it was not ours to wait for."""
    syscalls.close_range(apart.PIDFD, apart.LAST)
    own = place.cgroup()
    oom = own.oom_kills() > 0
    trouble = _clear(place, own)
    with state.changing(place.folder()) as stored:
        now = stored or State(place.name)
        now.oom, now.error = oom, trouble
        now.lost = status == -1
        now.exit_code = None if now.lost else exit_code(status)
        now.finished_at = state.now()
        ran = now.finished_at - now.started_at
        return _next(place, now, failed=now.exit_code != 0, ran=ran)


def _clear(place: Place, own: cgroup.Cgroup) -> str:
    """Remove what the container had in the kernel; what could not be, in words.

    That is no reason not to write down how it ended: a start removes what is left of an earlier life.
    """
    paths = place.paths()
    trouble = stand_in.clear(paths.container(place.name))
    undoing: tuple[Callable[[], object], ...] = (
        lambda: cgroup.release(own),
        lambda: orphan.poststop(paths, place.name),
        lambda: place.endpoints().withdraw(),
    )
    for undo in undoing:
        try:
            undo()
        except (HostctlError, OSError) as error:
            trouble = trouble or str(error)
    return trouble


@told
def again(place: Place) -> Answer:
    """The wait is over: start it again, unless somebody has asked it to stop meanwhile."""
    # As with the first start: of a monitor that is gone nobody starts anything.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
    with state.changing(place.folder()) as stored:
        if stored is not None and os.getppid() != stored.monitor:
            return END
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
    policy = place.settings().policy
    again, now.ill = now.ill and not now.stopped, False
    if not again and not policy.restarts(failed=failed, stopped=now.stopped, already=now.restarts):
        return _conclude(place, now)
    now.wait = backoff(now.wait, ran)
    now.status, now.pid, now.start_time = state.RESTARTING, 0, 0
    state.write(place.folder(), now)
    return b"wait %d" % int(now.wait * 1000), {}


def _conclude(place: Place, now: State) -> Answer:
    """The container's end for good, and so the monitor's."""
    now.status, now.pid, now.start_time = state.EXITED, 0, 0
    now.monitor = now.monitor_start = 0
    now.wait = 0.0
    try:
        os.unlink(os.path.join(place.folder(), files.SOCKET))
    except FileNotFoundError:
        pass
    # Whoever sees the end in the run folder may shut the host down: what is for after that is there by then.
    place.keep(now)
    state.write(place.folder(), now)
    return END


@told
def restore(place: Place, pid: int) -> Answer:
    """The DNS process has gone: another one gets the sockets. An empty word: it could not be had."""
    sockets = list(_opened(apart.SOCKETS))
    try:
        return b"restored", {apart.RESOLVER: place.endpoints().serve(sockets, pid)[0]}
    except OSError:
        return b"", {}


def _opened(first: int) -> Iterator[int]:
    """The descriptors from that number on, up to the first that is not open."""
    for fd in range(first, apart.LAST):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            return
        yield fd
