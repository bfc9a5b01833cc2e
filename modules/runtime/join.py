"""Runs on the managed host: a further program in a running container (`exec`).

Two forks: joining a pid namespace concerns children only, so a middle process enters the container,
and its child, which belongs there, becomes the program. The middle one waits and passes the end on.

The container sees the child, and where it has SYS_PTRACE it may seize it. There the middle process gives up
the host's rights already, so that the child never has them; elsewhere only the child does, and filters need
to allow nothing of what the two of them do.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from . import idmap, process
from . import syscalls as sys
from . import terminal as terminals
from .cgroup import Cgroup
from .config import RuntimeFailure
from .handshake import Handshake
from .init import exit_code
from .namespaces import KINDS
from .process import Process
from .seccomp import install as seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_TRACING = 1 << 19  # CAP_SYS_PTRACE
_MOVED, _TERMINAL, _PROGRAM = "moved", "terminal", "program"
# The mount namespace late, because /proc goes with it; the user namespace last, because the rights that
# all others take go with it.
_ORDER = ("cgroup", "ipc", "uts", "network", "pid", "time", "mount", "user")


class Joined:
    """A program that runs in the container.

    Attributes:
        pid, pidfd: the process to wait for, which passes on how the program ended.
        program: the program itself, seen from here.
        terminal: the master side, -1 without one.
    """

    def __init__(self, pid: int, program: int, terminal: int) -> None:
        self.pid = pid
        self.program = program
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
    pid: int,
    plan: Process,
    cgroup: Cgroup,
    *,
    stdio: Sequence[int],
    terminal: bool = False,
    size: tuple[int, int] = (0, 0),
    detach: bool = False,
    preserve: Sequence[int] = (),
) -> Joined:
    """Run the program in the namespaces of `pid`.

    Args:
        pid: the container's first process.
        plan: what to run; its `rlimits`, capabilities and user as the container's.
        stdio: three descriptors; ignored with `terminal`, which is made in the container.
        size: rows and columns of the terminal; 0 for the kernel's own.
        detach: it lives on without the caller, and becomes a child of the nearest subreaper; there is
            nothing to wait for then.
        preserve: further descriptors that the program gets, under the same numbers.
    Raises:
        RuntimeFailure: with code 126 or 127 where the program cannot be executed.
    """
    spaces = _open_namespaces(pid)
    early = _seizable(pid, plan, spaces)
    handshake = Handshake()
    if "user" in spaces and not terminal:
        # To its root, who passes them on: whose name the program runs under is looked up in there.
        idmap.give(stdio, idmap.of_process(pid), 0, 0)
    # Bound before the fork: this process may have threads, and the child should allocate little.
    sys.prctl(sys.PR_CAPBSET_READ, 0)
    child = os.fork()
    if child == 0:
        tty = size if terminal else None
        _middle(plan, spaces, handshake, stdio, tty, detach, preserve, early)
    for fd in spaces.values():
        os.close(fd)
    handshake.parent()
    master, program = -1, 0
    try:
        cgroup.join(child)
        handshake.send(_MOVED)
        for _ in range(2 if terminal else 1):
            word, fds = handshake.receive()
            if word == _TERMINAL:
                master = fds[0]
            else:
                program = int(word.partition(" ")[2])
        handshake.expect_end()
    except BaseException:
        os.kill(child, 9)
        os.waitpid(child, 0)
        raise
    finally:
        handshake.close()
    if detach:
        os.waitpid(child, 0)
    return Joined(program if detach else child, program, master)


def _open_namespaces(pid: int) -> dict[str, int]:
    """Those that are not this process's own anyway."""
    found = {}
    try:
        for kind in _ORDER:
            path, own = (f"/proc/{who}/ns/{KINDS[kind][1]}" for who in (pid, "self"))
            if not os.path.exists(own):
                continue  # older kernels have no clocks of their own
            if os.stat(path).st_ino != os.stat(own).st_ino:
                found[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        for fd in found.values():
            os.close(fd)
        raise RuntimeFailure(
            "cannot run a program in the container: it has just ended", ref="not-running"
        ) from error
    return found


def _seizable(pid: int, plan: Process, spaces: dict[str, int]) -> bool:
    """Whether the container's processes may trace one that is to be among them.

    Not one that comes into a user namespace: until it executes, its memory is the host's. A filter that
    somebody listens to is installed by the child, which that one is told of.
    """
    if "pid" not in spaces or "user" in spaces or (plan.seccomp and plan.seccomp.listener):
        return False
    with open(f"/proc/{pid}/status", encoding="ascii") as stream:
        words = next((line.split() for line in stream if line.startswith("CapBnd:")), ["", "0"])
    return bool(int(words[1], 16) & _TRACING)


def _middle(
    plan: Process,
    spaces: dict[str, int],
    handshake: Handshake,
    stdio: Sequence[int],
    tty: tuple[int, int] | None,
    detach: bool,
    preserve: Sequence[int],
    early: bool,
) -> NoReturn:
    try:
        handshake.child()
        sys.prctl(sys.PR_SET_DUMPABLE, 0)
        if tty is None:
            _take(stdio)
        if plan.affinity is not None:
            process.enter_affinity(plan.affinity.initial)
        handshake.expect(_MOVED)
        process.enter_host(plan)
        if plan.affinity is not None:
            process.enter_affinity(plan.affinity.final)
        for kind, fd in spaces.items():
            sys.setns(fd, KINDS[kind][0])
        if "user" in spaces:
            idmap.become_root()
        # The caller's ends of the pipes are here too, and would keep them open.
        listener = plan.seccomp.listener if plan.seccomp else None
        if listener:
            listener.await_pid()
        process.close_all_but(handshake.fileno(), *seccomp.filenos(plan.seccomp), *preserve)
        if early:
            if tty is not None:
                _silence()  # what is there is not the program's
            process.enter_cwd(plan, handshake.fileno(), *preserve, make=False)
            process.enter(plan)
        child = os.fork()
        if child == 0:
            if listener:
                listener.learn_pid()
            _program(plan, handshake, tty, detach, preserve, early)
        if listener:
            listener.tell_pid(child)
        handshake.send(f"{_PROGRAM} {child}")
        handshake.close()
        if detach:
            os._exit(0)
        _silence()
        os._exit(exit_code(os.waitpid(child, 0)[1]))
    except BaseException as error:
        handshake.send_error(error)
    finally:
        os._exit(125)


def _silence() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


def _program(
    plan: Process,
    handshake: Handshake,
    tty: tuple[int, int] | None,
    detach: bool,
    preserve: Sequence[int],
    early: bool,
) -> NoReturn:
    try:
        if not detach:
            sys.prctl(sys.PR_SET_PDEATHSIG, 9)
        os.setsid()
        if tty is not None:
            os.umask(0)
            _own_terminal(plan, handshake, tty)
            os.umask(plan.umask)
        if not early:
            process.enter_cwd(plan, handshake.fileno(), *preserve, make=False)
            process.enter(plan)
        process.execute(plan)
    except BaseException as error:
        handshake.send_error(error)
    finally:
        os._exit(getattr(os, "EX_OSERR", 71))


def _own_terminal(plan: Process, handshake: Handshake, size: tuple[int, int]) -> None:
    """A terminal of the container's own devpts; its master side goes to the caller."""
    master, slave = terminals.open_pair()
    if any(size):
        resize(master, *size)
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
