"""Runs on the managed host: one process per container: starts it, writes its log, starts it again.

Forked by the zygote, which has imported everything: nothing is imported here at run time. All that it
knows is on disk, so that another monitor can take over after a kill (`adopt`).
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from typing import Any

from ..agent.host import Paths
from ..contract.errors import HostctlError
from ..runtime import cgroup, syscalls
from ..runtime.config import RuntimeFailure
from ..runtime.container import create
from ..runtime.handshake import describe
from ..runtime.init import exit_code
from . import apart, control, files, state
from .endpoints import Endpoints
from .log import Log
from .restart import Backoff
from .state import State

_READ = 64 << 10
_KILL = 9


class Monitor:
    """Everything that one monitor holds. `run` returns when the container has ended for good."""

    def __init__(self, paths: Paths, name: str) -> None:
        self._paths = paths
        self._name = name
        self._folder = paths.container_run(name)
        os.makedirs(self._folder, 0o700, exist_ok=True)
        self._lock = _lock(os.path.join(self._folder, files.LOCK), name)
        self._settings = files.settings(paths, name)
        self._endpoints = Endpoints(paths, name, files.network(paths, name))
        self._cgroup_path = cgroup.container_path(paths.run, name)
        self._pidfd = -1
        self._ours = False
        self._began = 0.0
        self._backoff = Backoff()
        self._start_at = 0.0
        self._kill_at = 0.0
        self._waiting: list[control.Connection] = []
        self._connections: dict[int, control.Connection] = {}
        self._pipes = files.open_pipes(self._folder)
        log = os.path.join(paths.container(name), "log")
        os.makedirs(log, 0o700, exist_ok=True)
        self._log = Log(log, self._settings.log_max_size, self._settings.log_max_file)
        self._listener = control.listen(self._folder, files.SOCKET)
        own = os.getpid()
        self._state = State(
            name, monitor=own, monitor_start=state.start_time(own), boot_id=state.boot_id()
        )
        self._done = False

    @property
    def state(self) -> State:
        return self._state

    def start(self) -> None:
        """Make and start the container. Raises HostctlError; nothing but the state is left then."""
        try:
            self._launch()
        except HostctlError as error:
            self._state.status = state.EXITED
            self._state.exit_code = getattr(error, "code", 125)
            self._state.error = error.message
            self._state.finished_at = state.now()
            self._end()
            raise

    def adopt(self, old: State) -> None:
        """Watch a container whose monitor was killed. It is a stranger's child: its end will be lost."""
        own = self._state
        old.monitor, old.monitor_start = own.monitor, own.monitor_start
        self._state = old
        self._pidfd = syscalls.pidfd_open(old.pid)
        if not state.container_alive(old):
            raise RuntimeFailure(f"cannot adopt {self._name}: it has ended", ref="not-running")
        self._endpoints.adopt(old.pid)
        self._began = time.monotonic() - max(0.0, state.now() - old.started_at)
        self._write()

    def run(self) -> None:
        """The loop: pipes, the container's end, clients, the resolver, and what is due."""
        while not self._done:
            poll = select.poll()
            for fd in self._pipes.values():
                poll.register(fd, select.POLLIN)
            for fd in (
                self._pidfd,
                self._listener.fileno(),
                self._endpoints.fileno(),
                self._log.compressor_fd,
                *self._connections,
            ):
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll(self._timeout()):
                self._ready(fd)
            self._due()

    def _timeout(self) -> int | None:
        due = [at for at in (self._start_at, self._kill_at) if at]
        if not due:
            return None
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1)

    def _ready(self, fd: int) -> None:
        if self._done:
            return
        for stream, pipe in self._pipes.items():
            if fd == pipe:
                self._read(stream, pipe)
                return
        if fd == self._pidfd:
            self._ended()
        elif fd == self._listener.fileno():
            self._accept()
        elif fd == self._endpoints.fileno():
            self._endpoints.restore()
        elif fd == self._log.compressor_fd:
            self._log.reap()
        elif fd in self._connections:
            self._converse(self._connections[fd])

    def _read(self, stream: str, pipe: int) -> bool:
        try:
            data = os.read(pipe, _READ)
        except BlockingIOError:
            return False
        self._log.feed(stream, data)
        return True

    def _due(self) -> None:
        now = time.monotonic()
        if self._kill_at and now >= self._kill_at:
            self._kill_at = 0.0
            self._signal(_KILL)
        if self._start_at and now >= self._start_at:
            self._start_at = 0.0
            self._state.restarts += 1
            try:
                self._launch()
            except HostctlError as error:
                self._state.error = error.message
                self._state.exit_code = getattr(error, "code", 125)
                self._state.finished_at = state.now()
                self._again(failed=True, ran=0.0)

    def _launch(self) -> None:
        """One start, of the first or a later run."""
        try:
            pid, fds = self._make()
        except OSError as error:
            raise RuntimeFailure(
                f"cannot start {self._name}: {error}", ref="container-failed"
            ) from error
        try:
            self._pidfd = syscalls.pidfd_open(pid)
            self._endpoints.publish(pid, fds)
        except OSError as error:
            self._release()
            raise RuntimeFailure(
                f"cannot start {self._name}: {error}", ref="container-failed"
            ) from error
        self._ours = True
        self._began = time.monotonic()
        self._state.status = state.RUNNING
        self._state.pid = pid
        self._state.start_time = state.start_time(pid)
        self._state.started_at = state.now()
        self._state.error = ""
        self._state.oom = False
        self._write()

    def _make(self) -> tuple[int, list[int]]:
        """In a child of ours, which makes the container our child: its pid and resolver sockets."""
        try:
            word, fds = apart.run(self._create)
        except BaseException:
            self._release()
            raise
        return int(word), fds

    def _create(self) -> tuple[str, list[int]]:
        container = create(
            files.load(self._paths, self._name),
            files.bundle(self._paths, self._name),
            cgroup_path=self._cgroup_path,
            stdio=files.open_stdio(self._folder),
            network=self._endpoints,
            sibling=True,
        )
        container.start()
        return str(container.pid), container.sockets

    def _release(self) -> None:
        """Whatever is left of the container, its zombie included."""
        try:
            apart.run(self._remove_cgroup)
        finally:
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1
            _reap()
        self._endpoints.withdraw()

    def _remove_cgroup(self) -> tuple[str, list[int]]:
        """Its word is whether memory ran out."""
        own = cgroup.Cgroup(self._cgroup_path, cgroup.detect())
        kills = own.oom_kills()
        cgroup.release(own)
        return ("oom" if kills else ""), []

    def _ended(self) -> None:
        """The first process has ended: note how, clean up, decide what follows."""
        ran = time.monotonic() - self._began
        self._kill_at = 0.0
        if self._ours:
            self._state.exit_code, self._state.lost = exit_code(_reap(self._state.pid)), False
        else:
            self._state.exit_code, self._state.lost = None, True
        os.close(self._pidfd)
        self._pidfd = -1
        # Processes that outlived the first one (of a shared pid namespace) must not write any more.
        word, _ = apart.run(self._remove_cgroup)
        self._state.oom = word == "oom"
        for stream, pipe in self._pipes.items():
            while self._read(stream, pipe):
                pass
        self._log.flush()
        self._endpoints.withdraw()
        self._state.finished_at = state.now()
        self._again(failed=self._state.lost or self._state.exit_code != 0, ran=ran)

    def _again(self, *, failed: bool, ran: float) -> None:
        """Wait for the next start, or end for good."""
        self._state.pid = self._state.start_time = 0
        self._settings = files.settings(self._paths, self._name)
        if self._settings.policy.restarts(
            failed=failed, stopped=self._state.stopped, already=self._state.restarts
        ):
            self._start_at = time.monotonic() + self._backoff.after(ran)
            self._state.status = state.RESTARTING
            self._write()
        else:
            self._state.status = state.EXITED
            self._end()

    def _end(self) -> None:
        """The end of the monitor: the state says so before anybody is told."""
        self._done = True
        self._start_at = 0.0
        self._log.close()
        self._state.monitor = self._state.monitor_start = 0
        self._state.pid = self._state.start_time = 0
        self._write()
        try:
            os.unlink(os.path.join(self._folder, files.SOCKET))
        except FileNotFoundError:
            pass
        for connection in self._waiting:
            connection.answer({"state": state.to_json(self._state)})

    def _write(self) -> None:
        try:
            state.write(self._folder, self._state)
        except OSError:
            return  # the run folder is full or gone; readers check the state against the kernel

    def _signal(self, number: int) -> None:
        if self._pidfd >= 0:
            try:
                syscalls.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        self._connections[peer.fileno()] = control.Connection(peer)

    def _converse(self, connection: control.Connection) -> None:
        try:
            request = connection.read()
        except OSError:
            del self._connections[connection.fileno()]
            if connection in self._waiting:
                self._waiting.remove(connection)
            connection.close()
            return
        if request is None:
            return
        try:
            later = self._obey(request, connection)
        except (HostctlError, OSError, TypeError, ValueError) as error:
            connection.answer({"error": describe(error)})
            return
        if not later:
            connection.answer({"state": state.to_json(self._state)})

    def _obey(self, request: dict[str, Any], connection: control.Connection) -> bool:
        """Do what is asked; True if the answer follows at the container's end."""
        verb = request.get("verb")
        if verb == "status":
            return False
        if verb == "wait":
            self._waiting.append(connection)
            return True
        if verb == "stop":
            self._waiting.append(connection)
            grace = request.get("grace")
            self._stop(
                int(request.get("signal") or self._settings.stop_signal),
                self._settings.stop_grace if grace is None else float(grace),
            )
            return True
        if verb == "kill":
            number = int(request.get("signal") or _KILL)
            if number in (_KILL, self._settings.stop_signal):
                self._state.stopped = True
            self._signal(number)
            return False
        if verb == "update":
            own = cgroup.Cgroup(self._cgroup_path, cgroup.detect())
            cgroup.update(own, dict(request.get("resources") or {}))
            return False
        raise HostctlError(f"cannot {verb}: this monitor does not know that", ref="unknown-verb")

    def _stop(self, number: int, grace: float) -> None:
        self._state.stopped = True
        if self._pidfd < 0:  # it was waiting for its next start
            self._state.status = state.EXITED
            self._end()
            return
        self._write()
        self._kill_at = time.monotonic() + max(grace, 0.0)
        self._signal(number)


def _reap(pid: int = -1) -> int:
    """The wait status of that child; with -1 of whatever has ended."""
    try:
        return os.waitpid(pid, 0 if pid > 0 else os.WNOHANG)[1]
    except ChildProcessError:
        return 0


def _lock(path: str, name: str) -> int:
    """At most one monitor per container, for as long as this one lives."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise RuntimeFailure(
            f"cannot start {name}: it has a monitor already", ref="already-running"
        ) from None
    return fd
