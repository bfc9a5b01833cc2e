"""Runs on the managed host: one process per container: its log, its end, and the next start.

Forked by the zygote. It holds what must outlive single acts (descriptors, being the parent) and does
nothing but wait, read and write: all acts are in `steps`, each in a child, and all knowledge is on disk,
so that another monitor can take over after a kill. Its own code is plain for the memory's sake.
"""

from __future__ import annotations

import os
import select
import time

from ..runtime import syscalls
from . import apart
from .journal import Journal
from .log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .acts import Acts

NAME = b"hostctl-monitor"
_READ = 64 << 10
_PAUSE = 1.0
_PROBE_LOST = 600.0


def watch(
    acts: Acts,
    poll: select.poll,
    rename: Callable[[], int],
    client: Callable[[int], bool],
    waiting: int,
) -> None:
    """Start or adopt a container for a client, and stay until it has ended for good.

    Flat, and with nothing that work needs until there is any: many containers hardly ever say anything,
    and their monitors are to cost little.

    Args:
        poll: of `running`, made before the fork.
        rename: of `renamer`, likewise.
        client, waiting: for `acts.begin`.
    """
    if apart.start(acts.begin, client, waiting) != 0:
        return
    rename()
    poll.poll()
    Monitor(acts, poll, apart.word()).run()


def running() -> select.poll:
    """What a monitor waits for while its container runs. Its first call is made here, in vain."""
    poll = _waiting()
    poll.register(apart.PIDFD, select.POLLIN)
    poll.register(apart.RESOLVER, select.POLLIN)
    poll.poll(0)
    return poll


def _waiting() -> select.poll:
    """The same while there is no container."""
    poll = select.poll()
    for fd in (apart.STDOUT, apart.STDERR, apart.CONTROL, apart.WAKE):
        poll.register(fd, select.POLLIN)
    return poll


def renamer(name: bytes) -> Callable[[], int]:
    """Gives the calling process a name, as `ps` shows it."""
    return syscalls.frugal("prctl", syscalls.PR_SET_NAME, name)


class Monitor:
    """What is to be done while there is something to do.

    Args:
        word: `run PID LOG RESOLVER REQUEST`: see `steps`.
    """

    def __init__(self, acts: Acts, poll: select.poll, word: bytes) -> None:
        self._acts = acts
        self._poll = poll
        _, pid, log, resolver, self._line = word.split(b" ", 4)
        self._pid = int(pid)
        self._log: Log | Journal = (
            Journal(bytes.fromhex(log[1:].decode()), self._rotate)
            if log.startswith(b"j")
            else Log(int(log), self._rotate, self._grown)
        )
        # Seconds of the monotonic clock; 0 for never.
        self._start_at = self._restore_at = self._restored = self._probe_at = 0.0
        self._resolver = resolver == b"1"
        # Descriptors of those who are attached, and whether what is next comes after something lost.
        self._taps = b""
        self._late = 0

    def run(self) -> None:
        while True:
            for fd, _ in self._poll.poll(self._wait()):
                if fd <= apart.STDERR:
                    self._read(fd)
                elif fd == apart.PIDFD:
                    if not self._follows(self._over()):
                        return
                    break  # what else was ready is closed
                elif fd == apart.CONTROL:
                    apart.alone(self._acts.serve, self._line, meet=self._acts.accept)
                elif fd == apart.WAKE:
                    self._woken(os.read(fd, _READ))
                elif self._resolver:
                    self._resolver_lost()
            if self._start_at and time.monotonic() >= self._start_at:
                self._start_at = 0.0
                if not self._follows(apart.run(self._acts.again, self._line)):
                    return
            if self._probe_at and time.monotonic() >= self._probe_at:
                # Its child says when the next is due; this is for one that was killed.
                self._probe_at = time.monotonic() + _PROBE_LOST
                apart.alone(self._acts.probe, self._line)
            if self._restore_at and time.monotonic() >= self._restore_at:
                self._restore()

    def _woken(self, words: bytes) -> None:
        """`p MILLISECONDS`: the next look at its health; `s`: the wait for the next start is over;
        `a NUMBER`: somebody attaches; `r SIZE`: the log is to be rotated, if it is as large."""
        for word in words.split(b"\n"):
            if word.startswith(b"p"):
                self._probe_at = time.monotonic() + int(word[1:]) / 1000
            elif word.startswith(b"a"):
                there = apart.run(self._acts.attach, self._line, int(word[1:]))
                self._taps = there[1:] if there else self._taps
            elif word.startswith(b"r"):
                apart.run(self._acts.rotate, self._line, int(word[1:]))
            elif word:
                self._start_at = self._start_at and time.monotonic()

    def _wait(self) -> int | None:
        """Milliseconds until something is due."""
        due = self._start_at or self._restore_at
        if self._probe_at and (not due or self._probe_at < due):
            due = self._probe_at
        return max(0, int((due - time.monotonic()) * 1000) + 1) if due else None

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        self._log.feed(fd, data)
        for tap in self._taps:
            self._tell(tap, fd, data)
        return bool(data)

    def _tell(self, tap: int, fd: int, data: bytes) -> None:
        """Who is attached hears it too; who does not listen loses it, and is told so by what comes next."""
        late = 1 << tap & self._late
        head = apart.OUTPUT + fd - apart.STDOUT + (apart.LATE if late else 0)
        try:
            os.write(tap, bytes((head,)) + data)
            self._late ^= late
        except BlockingIOError:
            self._late |= 1 << tap
        except OSError:
            syscalls.close_range(tap, tap)
            self._taps = self._taps.replace(bytes((tap,)), b"")
            self._late &= ~(1 << tap)

    def _rotate(self) -> None:
        apart.run(self._acts.rotate, self._line)

    def _grown(self) -> None:
        apart.alone(self._acts.grown, self._line)

    def _over(self) -> bytes:
        """What follows from the container's end. Nobody else knows how that was: a killed act is begun again."""
        status = self._ended()
        return apart.run(self._acts.ended, self._line, status) or apart.run(
            self._acts.ended, self._line, status
        )

    def _ended(self) -> int:
        """The wait status, -1 where it is somebody else's child. Its last words are in the log then."""
        try:
            status = os.waitpid(self._pid, 0)[1]
        except ChildProcessError:
            status = -1
        self._restore_at = self._probe_at = 0.0
        self._drain()
        self._taps, self._late = b"", 0
        return status

    def _drain(self) -> None:
        for fd in (apart.STDOUT, apart.STDERR):
            while self._read(fd):
                pass
        self._log.flush()

    def _follows(self, word: bytes) -> bool:
        """Take note of what an act has led to; False for the end."""
        if word.startswith(b"run"):
            _, pid, _, resolver, _ = word.split(b" ", 4)
            self._pid = int(pid)
            self._poll = running()
            self._resolver = resolver == b"1"
            self._restored = time.monotonic()
        elif word.startswith(b"wait"):
            self._start_at = time.monotonic() + int(word.split()[1]) / 1000
            self._poll = _waiting()
            self._reap()
        else:
            self._drain()
            return False
        return True

    def _reap(self) -> None:
        """First processes whose start failed: they are children of ours."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return

    def _resolver_lost(self) -> None:
        """The DNS process has gone: hand over again, at once unless it dies again and again."""
        now = time.monotonic()
        self._restore_at = now if now - self._restored > _PAUSE else now + _PAUSE
        # Until then nothing comes from there but what comes from the container's end.
        os.dup2(apart.PIDFD, apart.RESOLVER, inheritable=False)

    def _restore(self) -> None:
        done = apart.run(self._acts.restore, self._line, self._pid)
        self._restored = time.monotonic()
        self._restore_at = 0.0 if done else self._restored + _PAUSE
