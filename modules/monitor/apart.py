"""Runs on the managed host, in a monitor: work done in a child, so that the memory it touches goes with it.

A monitor shares nearly all its pages with the zygote. Whatever it executes itself it makes its own copy
of (reference counts), for as long as the container runs: making a container would cost 2 MB. Hence also
the plain descriptors here: Python's socket objects alone touch 0.4 MB.
"""

from __future__ import annotations

import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn

Answer = tuple[bytes, list[int]]
_FDS = 16
_WORD = 16 << 10


def run(work: Callable[..., Answer], *args: object) -> Answer:
    """Do the work in a child of ours and wait: its word and descriptors; an empty word if it died."""
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _child(work, args, far)
    far.close()
    word, control, _, _ = near.recvmsg(
        _WORD, _socket.CMSG_SPACE(4 * _FDS), _socket.MSG_CMSG_CLOEXEC
    )
    near.close()
    os.waitpid(pid, 0)
    return word, list(memoryview(control[0][2]).cast("i")) if control else []


def _child(work: Callable[..., Answer], args: tuple[object, ...], far: _socket.socket) -> NoReturn:
    try:
        word, fds = work(*args)
        packed = b"".join(fd.to_bytes(4, "little") for fd in fds)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if fds else []
        far.sendmsg([word], rights)
    finally:
        os._exit(0)


def alone(work: Callable[..., None], *args: object) -> None:
    """Do the work in a process of its own that nobody waits for."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        # Twice: it becomes init's child, or the zygote's, which both reap.
        if os.fork() == 0:
            work(*args)
    finally:
        os._exit(0)
