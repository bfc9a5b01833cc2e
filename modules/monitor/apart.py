"""Runs on the managed host, in a monitor: work done in a child, so that the memory it touches goes with it.

A monitor shares nearly all its pages with the zygote. Whatever it executes itself it makes its own copy
of (reference counts), for as long as the container runs: making a container would cost 2 MB. The child
shares the monitor's table of descriptors and opens there what the monitor is to have, at fixed numbers:
to be told them, or to be sent descriptors, would cost memory too.
"""

from __future__ import annotations

import os

from ..runtime import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn

Answer = tuple[bytes, dict[int, int]]
"""A word for the monitor, and for the numbers below the descriptors that it is to have there."""

LISTENER = 199
"""The zygote's socket."""
WORD, LOCK, STDOUT, STDERR, CONTROL, WAKE, WAKER, LOG, TERMINAL, PIDFD, RESOLVER = range(200, 211)
"""A monitor's descriptors. WAKER is the writing end of WAKE; the resolver's sockets follow RESOLVER.

Of a container with a terminal, STDOUT is the master side. TERMINAL is then the other one: while it is open,
reading the master is no error, whatever the container has closed.
"""
SOCKETS = RESOLVER + 1
LAST = 255
TAPS = range(240, LAST + 1)
"""Of those who are attached to the container: see `attached`. What they are told begins with such a byte:"""
OUTPUT, LATE = 1, 4
_WORD_SIZE = 4096
_fork = syscalls.frugal("clone", syscalls.CLONE_FILES | 17)  # SIGCHLD
# Who made a container's first process in two steps (`runtime/birth.py`): in our process group, and dead.
# A container's own processes have left it.
_reap = syscalls.frugal("wait4", 0, 0, os.WNOHANG)


def start(work: Callable[..., Answer], *args: object) -> int:
    """Do the work in a child and wait for its end: 0 where it has left descriptors."""
    pid = _fork()
    if pid == 0:
        _child(work, args)
    status = os.waitpid(pid, 0)[1]
    _reap()
    if status & 0x7F:
        _forget()  # it was killed: a lock that it had would be ours for ever
    return status


def word() -> bytes:
    """What the work left; empty where the child died."""
    try:
        said = os.read(WORD, _WORD_SIZE)
        os.close(WORD)
    except OSError:
        return b""
    return said


def run(work: Callable[..., Answer], *args: object) -> bytes:
    """Both."""
    start(work, *args)
    return word()


def _child(work: Callable[..., Answer], args: tuple[object, ...]) -> NoReturn:
    status = 1
    try:
        try:
            said, fds = work(*args)
            for number, fd in fds.items():
                os.dup2(fd, number, inheritable=False)
            reading, writing = os.pipe()
            os.write(writing, said)
            os.dup2(reading, WORD, inheritable=False)
            status = 0 if fds else 1
        finally:
            _forget()
    finally:
        os._exit(status)


def _forget() -> None:
    """Whatever else the work has opened, it has opened in the monitor too."""
    syscalls.close_range(3, LISTENER - 1)
    syscalls.close_range(LAST + 1)


def alone(
    work: Callable[..., None], *args: object, meet: Callable[[], object] | None = None
) -> None:
    """Do the work in a process of its own that nobody waits for; those who are attached are the monitor's alone.

    With `meet` it returns after that, whose result comes last among the work's arguments; None calls it off.
    """
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        # Else an attachment would end with the work, and not with the container.
        syscalls.close_range(TAPS.start, LAST)
        if meet is not None:
            args = (*args, meet())
        # Twice: it becomes init's child, or the zygote's, which both reap.
        if None not in args and os.fork() == 0:
            work(*args)
    finally:
        os._exit(0)
