"""Runs on the managed host: the connection between a monitor and who is attached to its container.

Who attaches listens at `RUN/containers/NAME/attach.NUMBER` (SOCK_SEQPACKET), and asks the monitor's socket for
`{"verb": "attach", "number": NUMBER}`. The monitor connects. Its first packet is a zero byte, with a
descriptor that the container reads from: its terminal, or its stdin where that is open, else none; or it is a
one, and the last: too many are attached. Each further
packet is output: one byte, 1 for stdout or 2 for stderr, plus 4 where something before it was lost
because nobody took it; then the bytes. The stream ends with the container, or with its monitor.
"""

from __future__ import annotations

import _socket as socket
import os
import select
import struct

from . import control

PACKET = 1 + (64 << 10)
_QUEUE = 4 << 20
_SO_SNDBUFFORCE = 32
_WELCOME, _FULL = b"\0", b"\1"


class TooMany(Exception):
    """As many are attached as can be."""


def name(number: int) -> str:
    """Of the socket at which that one waits."""
    return f"attach.{number}"


def listens(fd: int) -> bool:
    """Monitor: whether the descriptor is open, and its other side too. Else it is closed."""
    poll = select.poll()
    poll.register(fd, 0)
    found = poll.poll(0)
    if not found:
        return True
    if not found[0][1] & select.POLLNVAL:
        os.close(fd)
    return False


def connect(path: str, source: int) -> int:
    """Monitor: the connection to who waits there, which gets `source` unless that is -1. Raises OSError."""
    peer = control.connect(path, 1.0, socket.SOCK_SEQPACKET)
    # What a line to the controller cannot take at once.
    peer.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _QUEUE)
    peer.setblocking(False)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", source))]
    peer.sendmsg([_WELCOME], rights if source >= 0 else [])
    return peer.detach()


def refuse(path: str) -> None:
    """Monitor: tell who waits there that there are too many. Raises OSError."""
    peer = control.connect(path, 1.0, socket.SOCK_SEQPACKET)
    peer.send(_FULL)
    peer.close()


def listen(folder: str, number: int) -> socket.socket:
    """Who attaches: where the monitor connects to."""
    return control.listen(folder, name(number), socket.SOCK_SEQPACKET)


def take(listener: socket.socket, seconds: float) -> tuple[socket.socket, int]:
    """Who attaches: the connection, and where the container reads from or -1.

    Raises:
        TimeoutError: nobody connects.
        TooMany: the monitor refuses.
    """
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    if not poll.poll(int(seconds * 1000)):
        raise TimeoutError
    fd, _ = listener._accept()  # type: ignore[attr-defined]
    peer = socket.socket(fileno=fd)
    peer.setblocking(True)
    first, rights, _, _ = peer.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    if first == _FULL:
        peer.close()
        raise TooMany
    return peer, struct.unpack("=i", rights[0][2])[0] if rights else -1
