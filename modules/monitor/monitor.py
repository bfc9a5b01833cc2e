"""Runs on the managed host: one process per container: its log, its end, and the next start.

Forked by the zygote. It holds what must outlive single acts (descriptors, being the parent) and does
nothing but wait, read and write: all acts are in `steps`, each in a child, and all knowledge is on disk,
so that another monitor can take over after a kill. Its own code is plain for the memory's sake.
"""

from __future__ import annotations

import os
import select
import time

from . import apart
from .log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .acts import Acts

_READ = 64 << 10
_PAUSE = 1.0


def watch(acts: Acts, listener: int, waiting: int) -> None:
    """Start or adopt a container for a client of the listener, and stay until it has ended for good.

    Flat, and without the objects that work needs until there is any: many containers hardly ever say
    anything, and their monitors are to cost little.
    """
    rename(b"hostctl-monitor")
    word, fds = apart.run(acts.begin, listener, waiting)
    if not fds:
        return
    os.close(listener)
    os.close(waiting)
    poll = select.poll()
    for fd in fds[1:6]:  # without the lock; the resolver's connection is the last of them
        poll.register(fd, 1)
    poll.poll()
    Monitor(acts, word, fds).run()


def rename(name: bytes) -> None:
    """As `ps` shows it; without ctypes, whose every call touches memory."""
    comm = os.open("/proc/self/comm", os.O_WRONLY)
    os.write(comm, name)
    os.close(comm)


class Monitor:
    """The descriptors of one container; `pidfd` is -1 while it waits to be started again."""

    def __init__(self, acts: Acts, word: bytes, fds: list[int]) -> None:
        self._acts = acts
        # run PID SIZE COUNT LINE
        self._begun = word.split(b" ", 4)
        self._line = self._begun[4]
        self._lock, self._stdout, self._stderr, self._listener, self._pidfd, *self._resolver = fds
        self._pid = int(self._begun[1])
        self._ours = self._line.startswith(b"start")
        self._log: Log | None = None
        self._start_at = 0.0
        self._wake, self._waker = os.pipe()
        self._resolver_at = self._restored = 0.0

    def run(self) -> None:
        while True:
            for fd in self._ready():
                if fd == self._stdout:
                    self._read(fd, "stdout")
                elif fd == self._stderr:
                    self._read(fd, "stderr")
                elif fd == self._pidfd:
                    if not self._follows(*apart.run(self._acts.ended, self._line, self._ended())):
                        return
                elif fd == self._listener:
                    self._serve()
                elif fd == self._wake:
                    os.read(fd, 64)
                    self._start_at = time.monotonic()
                elif self._resolver and fd == self._resolver[0]:
                    self._resolver_lost()
            due = self._pidfd < 0 and time.monotonic() >= self._start_at
            if due and not self._follows(*apart.run(self._acts.again, self._line)):
                return
            if self._resolver_at and time.monotonic() >= self._resolver_at:
                self._restore()

    def _ready(self) -> list[int]:
        poll = select.poll()
        for fd in (self._stdout, self._stderr, self._listener, self._wake):
            poll.register(fd, select.POLLIN)
        due = 0.0
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        else:
            due = self._start_at
        if self._resolver_at:
            due = min(due, self._resolver_at) if due else self._resolver_at
        elif self._resolver:
            poll.register(self._resolver[0], select.POLLIN)
        wait = max(0, int((due - time.monotonic()) * 1000) + 1) if due else None
        return [fd for fd, _ in poll.poll(wait)]

    def _read(self, fd: int, stream: str) -> bool:
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        self._opened_log().feed(stream, data)
        return True

    def _opened_log(self) -> Log:
        """Made when there is something to log: many containers never say anything."""
        if self._log is None:
            _, name, data, _ = self._line.split(b"\0")
            folder = f"{data.decode()}/containers/{name.decode()}/log"
            self._log = Log(folder, int(self._begun[2]), int(self._begun[3]))
        return self._log

    def _running(self, word: bytes, fds: list[int]) -> None:
        self._pid, self._pidfd = int(word.split()[1]), fds[0]
        self._resolver = fds[1:]
        self._resolver_at = 0.0
        self._restored = time.monotonic()

    def _ended(self) -> int:
        """The wait status, -1 where it is somebody else's child. Its last words are in the log then."""
        status = os.waitpid(self._pid, 0)[1] if self._ours else -1
        self._ours = True
        for fd in (self._pidfd, *self._resolver):
            os.close(fd)
        self._pidfd, self._resolver, self._resolver_at = -1, [], 0.0
        self._drain()
        return status

    def _drain(self) -> None:
        for fd, stream in ((self._stdout, "stdout"), (self._stderr, "stderr")):
            while self._read(fd, stream):
                pass
        if self._log is not None:
            self._log.flush()

    def _follows(self, word: bytes, fds: list[int]) -> bool:
        """Take note of what a step has led to; False for the end."""
        if word.startswith(b"run"):
            self._running(word, fds)
        elif word.startswith(b"wait"):
            self._start_at = time.monotonic() + int(word.split()[1]) / 1000
            self._reap()
        else:
            self._drain()
            if self._log is not None:
                self._log.close()
            return False
        return True

    def _reap(self) -> None:
        """First processes whose start failed: they are children of ours."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return

    def _serve(self) -> None:
        try:
            peer = self._acts.accept(self._listener)
        except OSError:
            return
        apart.alone(self._acts.serve, self._line, peer, self._waker, self._lock)
        os.close(peer)

    def _resolver_lost(self) -> None:
        """The DNS process has gone: hand over again, at once unless it dies again and again."""
        now = time.monotonic()
        self._resolver_at = now if now - self._restored > _PAUSE else now + _PAUSE

    def _restore(self) -> None:
        _, fds = apart.run(self._acts.restore, self._line, self._pid, self._resolver[1:])
        self._restored = time.monotonic()
        if fds:
            os.close(self._resolver[0])
            self._resolver[0] = fds[0]
            self._resolver_at = 0.0
        else:
            self._resolver_at = self._restored + _PAUSE
