"""Runs on the managed host: a further program in a running container (`exec`).

Two forks: joining a pid namespace concerns children only, so a middle process enters the container,
and its child, which belongs there, becomes the program. The middle one waits and passes the end on.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios
from collections.abc import Sequence
from typing import NoReturn

from . import process
from . import syscalls as sys
from .cgroup import Cgroup
from .config import RuntimeFailure
from .handshake import Handshake
from .init import exit_code
from .namespaces import KINDS
from .process import Process

_MOVED, _TERMINAL = "moved", "terminal"
_TIOCGPTPEER = 0x5441
# The user namespace would come first; the mount namespace last, because /proc goes with it.
_ORDER = ("cgroup", "ipc", "uts", "network", "pid", "mount")


class Joined:
    """A program that runs in the container. `terminal` is the master side, -1 without one."""

    def __init__(self, pid: int, terminal: int) -> None:
        self.pid = pid
        self.pidfd = sys.pidfd_open(pid)
        self.terminal = terminal

    def kill(self) -> None:
        """End it. Its program goes with it (parent death signal)."""
        try:
            sys.pidfd_send_signal(self.pidfd, 9)
        except (ProcessLookupError, OSError):
            return

    def wait(self) -> int:
        """Its exit code, 128 + signal where one ended it. Call once."""
        code = exit_code(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)
        return code


def start(
    pid: int, plan: Process, cgroup: Cgroup, *, stdio: Sequence[int], terminal: bool = False
) -> Joined:
    """Run the program in the namespaces of `pid`.

    Args:
        pid: the container's first process.
        plan: what to run; its `rlimits`, capabilities and user as the container's.
        stdio: three descriptors; ignored with `terminal`, which is made in the container.
    Raises:
        RuntimeFailure: with code 126 or 127 where the program cannot be executed.
    """
    spaces = _open_namespaces(pid)
    handshake = Handshake()
    # Bound before the fork: this process may have threads, and the child should allocate little.
    sys.prctl(sys.PR_CAPBSET_READ, 0)
    child = os.fork()
    if child == 0:
        _middle(plan, spaces, handshake, stdio, terminal)
    for fd in spaces.values():
        os.close(fd)
    handshake.parent()
    try:
        cgroup.join(child)
        handshake.send(_MOVED)
        master = handshake.expect(_TERMINAL)[0] if terminal else -1
        handshake.expect_end()
    except BaseException:
        os.kill(child, 9)
        os.waitpid(child, 0)
        raise
    finally:
        handshake.close()
    return Joined(child, master)


def _open_namespaces(pid: int) -> dict[str, int]:
    """Those that are not this process's own anyway."""
    found = {}
    try:
        for kind in _ORDER:
            path = f"/proc/{pid}/ns/{KINDS[kind][1]}"
            if os.stat(path).st_ino != os.stat(f"/proc/self/ns/{KINDS[kind][1]}").st_ino:
                found[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        for fd in found.values():
            os.close(fd)
        raise RuntimeFailure(
            "cannot run a program in the container: it has just ended", ref="not-running"
        ) from error
    return found


def _middle(
    plan: Process, spaces: dict[str, int], handshake: Handshake, stdio: Sequence[int], tty: bool
) -> NoReturn:
    try:
        handshake.child()
        sys.prctl(sys.PR_SET_DUMPABLE, 0)
        if not tty:
            _take(stdio)
        handshake.expect(_MOVED)
        process.enter_host(plan)
        for kind, fd in spaces.items():
            sys.setns(fd, KINDS[kind][0])
        # The caller's ends of the pipes are here too, and would keep them open.
        process.close_all_but(handshake.fileno())
        child = os.fork()
        if child == 0:
            _program(plan, handshake, tty)
        handshake.close()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os._exit(exit_code(os.waitpid(child, 0)[1]))
    except BaseException as error:
        handshake.send_error(error)
    finally:
        os._exit(125)


def _program(plan: Process, handshake: Handshake, tty: bool) -> NoReturn:
    try:
        sys.prctl(sys.PR_SET_PDEATHSIG, 9)
        os.setsid()
        os.umask(0)
        if tty:
            _own_terminal(plan, handshake)
        process.enter_cwd(plan, handshake.fileno())
        process.enter(plan)
        process.execute(plan)
    except BaseException as error:
        handshake.send_error(error)
    finally:
        os._exit(getattr(os, "EX_OSERR", 71))


def _own_terminal(plan: Process, handshake: Handshake) -> None:
    """A terminal of the container's own devpts; its master side goes to the caller."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) != 5:
        raise RuntimeFailure("cannot make a terminal: /dev/ptmx is no terminal", ref="no-terminal")
    fcntl.ioctl(
        master, termios.TIOCSPTLCK if hasattr(termios, "TIOCSPTLCK") else 0x40045431, b"\0" * 4
    )
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    handshake.send(_TERMINAL, [master])
    os.close(master)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    if plan.uid:
        os.fchown(0, plan.uid, -1)


def _take(stdio: Sequence[int]) -> None:
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=True)


def resize(terminal: int, rows: int, columns: int) -> None:
    """The size of a terminal, given by its master side."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
