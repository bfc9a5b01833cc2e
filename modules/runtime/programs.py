"""Runs on the managed host, in monitors too: a program of the host, executed and waited for.

Not by subprocess, which a monitor does not import: for hooks, and for what the kernel's modules need.
"""

from __future__ import annotations

import os
import select

from . import syscalls as sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

_TAIL = 2000
_SIGKILL, _SIGPIPE = 9, 13


def run(
    path: str,
    args: Sequence[str],
    environment: Mapping[str, str],
    *,
    told: bytes = b"",
    cwd: str = "",
    seconds: float = 0,
) -> tuple[int | None, str]:
    """Execute a program in a session of its own.

    Args:
        args: all of them, the program's name first.
        told: what it can read.
        seconds: after which it is ended, with what it has started; 0: it may take for ever.
    Returns:
        The wait status, None where it took too long; and the last of what it printed, in one line.
    """
    given = os.memfd_create("told")
    said = os.memfd_create("output")
    try:
        os.write(given, told)
        os.lseek(given, 0, os.SEEK_SET)
        pid = os.fork()
        if pid == 0:
            _execute(path, args, environment, given, said, cwd)
        status = _wait(pid, seconds)
        size = os.fstat(said).st_size
        tail = os.pread(said, _TAIL, max(0, size - _TAIL))
        return status, " ".join(tail.decode(errors="replace").split())
    finally:
        os.close(given)
        os.close(said)


def _execute(
    path: str,
    args: Sequence[str],
    environment: Mapping[str, str],
    given: int,
    said: int,
    cwd: str,
) -> NoReturn:
    try:
        # A session of its own: what it starts ends with it where it takes too long.
        os.setsid()
        for fd, number in ((given, 0), (said, 1), (said, 2)):
            os.dup2(fd, number, inheritable=True)
        sys.close_range(3)
        sys.default_action(_SIGPIPE)  # Python ignores it, and that is inherited
        if cwd:
            os.chdir(cwd)
        os.execve(path, list(args), environment)
    except BaseException as error:
        os.write(2, f"{getattr(error, 'strerror', None) or error}\n".encode())
    finally:
        os._exit(127)


def _wait(pid: int, seconds: float) -> int | None:
    if seconds:
        pidfd = sys.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(seconds * 1000):
                os.killpg(pid, _SIGKILL)
                os.waitpid(pid, 0)
                return None
        finally:
            os.close(pidfd)
    return os.waitpid(pid, 0)[1]
