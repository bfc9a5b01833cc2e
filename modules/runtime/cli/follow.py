"""Runs on the managed host: stays with a program in the foreground: its signals, its terminal, its end."""

from __future__ import annotations

import os
import select
import signal
import sys

from .. import syscalls
from ..init import exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READ = 64 << 10
_NOT_PASSED = frozenset(
    (
        signal.SIGCHLD,
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGURG,
        signal.SIGSEGV,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGBUS,
        signal.SIGPIPE,
        signal.SIGTTIN,
        signal.SIGTTOU,
        32,
        33,
    )
)


def hold() -> None:
    """Signals wait from now on, until `Signals` takes them: none is lost while a program starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _passed())


def _passed() -> list[int]:
    return [number for number in range(1, signal.NSIG) if number not in _NOT_PASSED]


class Signals:
    """Every signal that comes to this process becomes a byte in a pipe, from now on."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in _passed():
            signal.signal(number, _nothing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _passed())

    def pending(self) -> bytes:
        return os.read(self.reading, 512)


def _nothing(_number: int, _frame: Any) -> None:
    """The byte in the pipe is all that is wanted."""


def follow(child: int, signals: Signals, *, target: int = 0, terminal: int = -1) -> int:
    """Wait for the child's end, and pass signals and the terminal's bytes on meanwhile.

    Args:
        target: who gets the signals, the child itself by default.
        terminal: the master side of the program's terminal; -1 without one.
    Returns:
        The exit code, 128 plus the signal that ended it.
    """
    pidfd = syscalls.pidfd_open(child)
    receiver = pidfd
    if target:
        try:
            receiver = syscalls.pidfd_open(target)
        except ProcessLookupError:  # it has ended already
            receiver = pidfd
    relay = _Relay(terminal) if terminal >= 0 else None
    poll = select.poll()
    for fd in (pidfd, signals.reading, *(relay.inputs() if relay else ())):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            for fd, _ in poll.poll():
                if fd == pidfd:
                    if relay:
                        relay.drain()
                    return exit_code(os.waitpid(child, 0)[1])
                if fd == signals.reading:
                    _pass_on(signals.pending(), receiver, relay)
                elif relay and not relay.carry(fd):
                    poll.unregister(fd)
    finally:
        if relay:
            relay.restore()
        os.close(pidfd)


def _pass_on(numbers: bytes, receiver: int, relay: _Relay | None) -> None:
    for number in numbers:
        try:
            if number == signal.SIGWINCH and relay:
                relay.resize()
            else:
                syscalls.pidfd_send_signal(receiver, number)
        except OSError:
            return


class _Relay:
    """Between this process's own terminal and the program's."""

    def __init__(self, master: int) -> None:
        import termios
        import tty

        self._termios = termios
        self._master = master
        self._before = None
        if os.isatty(0):
            self._before = termios.tcgetattr(0)
            tty.setraw(0)
            self.resize()

    def inputs(self) -> tuple[int, int]:
        return 0, self._master

    def resize(self) -> None:
        """The program's terminal gets the size of ours."""
        import fcntl

        if os.isatty(0):
            size = fcntl.ioctl(0, self._termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._master, self._termios.TIOCSWINSZ, size)

    def carry(self, fd: int) -> bool:
        """Pass on what there is; False at the stream's end."""
        try:
            data = os.read(fd, _READ)
            if data:
                _write(self._master if fd == 0 else 1, data)
            elif fd == 0:
                _write(self._master, b"\x04")
        except OSError:  # EIO: nobody has the other side open any more
            return False
        return bool(data)

    def drain(self) -> None:
        """What the program said last."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        while poll.poll(0) and self.carry(self._master):
            pass

    def restore(self) -> None:
        if self._before is not None:
            self._termios.tcsetattr(0, self._termios.TCSADRAIN, self._before)
        os.close(self._master)
        sys.stdout.flush()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
