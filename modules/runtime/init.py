"""Runs on the managed host, as process 1 of a container with `init: true`: reaps, forwards signals.

It is the container's first process itself, forked once more: there is no program to bring into the
image. It has the container's own rights and cannot be traced or read from inside.
"""

from __future__ import annotations

import _signal as signal
import os

from . import syscalls as sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .labels import Labels

_OWN = frozenset((signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP))
_FAULTS = frozenset((signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGBUS, signal.SIGTRAP))


def enter(handshake_fd: int, labels: Labels | None) -> None:
    """Returns in the child that is to execute the program; the caller itself never returns."""
    # /proc/1/exe is the host's interpreter: nobody inside may open it.
    sys.prctl(sys.PR_SET_DUMPABLE, 0)
    forwarded = set(range(1, signal.NSIG)) - {32, 33} - _OWN - _FAULTS
    signal.pthread_sigmask(signal.SIG_BLOCK, forwarded | {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return
    if labels is not None:
        labels.confine()
    os.close(handshake_fd)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    sys.set_process_name("hostctl-init")
    os._exit(_watch(child, forwarded))


def _watch(child: int, forwarded: set[int]) -> int:
    """Wait until the child ends; its exit code, 128 plus the signal that ended it otherwise."""
    awaited = forwarded | {signal.SIGCHLD}
    while True:
        number = signal.sigwaitinfo(awaited).si_signo
        if number != signal.SIGCHLD:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == 0:
                break
            if pid == child:
                return exit_code(status)


def exit_code(status: int) -> int:
    """A wait status as a shell says it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
