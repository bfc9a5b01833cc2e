"""Runs on the managed host, in a monitor: its socket. One JSON line asks, one answers.

Version 1: {"version": 1, "verb": status|stop|kill|update|wait|run|attach|rotate, ...}. `stop` {signal, grace} and
`wait` answer when the container has ended; `run` {hook, seconds} also says exit_code and output of its program;
`attach` {number}: see `attached`; `rotate` {size}: the log, if it is as large. An answer has `state`, or `error`
{ref, message}; `unknown-verb` is one that came later. Fields that a version does not know are ignored, so that an old
monitor and a new hostctl understand each other.
"""

from __future__ import annotations

import _socket as socket
import os
import select

from ..contract import plainjson
from ..contract.errors import HostctlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
_LINE = 1 << 20
_SECONDS = 10.0


class Peer:
    """The monitor's side of one conversation."""

    def __init__(self, fd: int) -> None:
        self._peer = socket.socket(fileno=fd)
        self._peer.settimeout(_SECONDS)

    def line(self) -> bytes:
        """One line without its end; nothing from a client that only looked whether we listen."""
        data = b""
        while not data.endswith(b"\n"):
            chunk = self._peer.recv(65536)
            if not chunk or len(data) > _LINE:
                return b""
            data += chunk
        return data[:-1]

    def gone(self) -> bool:
        """Whether the client has closed its end: it waits for no answer."""
        poll = select.poll()
        poll.register(self._peer.fileno(), 0)
        return bool(poll.poll(0))

    def request(self) -> dict[str, Any]:
        """The request. Raises OSError or ValueError where none comes."""
        request = plainjson.loads(self.line())
        return request if isinstance(request, dict) else {}

    def answer(self, message: dict[str, Any]) -> None:
        """Never raises: a client that has gone or does not read loses its answer."""
        try:
            self._peer.sendall(plainjson.dumps({"version": VERSION, **message}).encode() + b"\n")
        except OSError:
            return


def check(request: dict[str, Any]) -> None:
    """Raises HostctlError where it is of a version that means something else; without one it is the first."""
    version = request.get("version", VERSION)
    if version != VERSION:
        raise HostctlError(
            f"cannot understand a request of version {version}: this monitor speaks version {VERSION}",
            ref="monitor-version",
        )


def listen(folder: str, name: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """The socket in the container's run folder; the one of a dead monitor is replaced.

    The path of a socket may be at most 107 bytes long: it is bound by a path relative to the folder.
    """
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    listener.setblocking(False)
    where = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        temp = f".{name}.{os.getpid()}"
        listener.bind(f"/proc/self/fd/{where}/{temp}")
        os.rename(os.path.join(folder, temp), os.path.join(folder, name))
    finally:
        os.close(where)
    listener.listen(64)
    return listener


def connect(path: str, timeout: float, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Raises FileNotFoundError or ConnectionRefusedError where nobody listens."""
    peer = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    folder, name = os.path.split(path)
    try:
        where = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            peer.settimeout(timeout)
            peer.connect(f"/proc/self/fd/{where}/{name}")
        finally:
            os.close(where)
    except BaseException:
        peer.close()
        raise
    return peer


def ask(path: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Client side: one request, one answer.

    Raises:
        FileNotFoundError, ConnectionError: nobody is there, or it went away without an answer.
        socket.timeout: no answer in time.
    """
    return say(path, plainjson.dumps({"version": VERSION, **request}).encode() + b"\n", timeout)


def say(path: str, line: bytes, timeout: float) -> dict[str, Any]:
    """`ask` with a line that is there already."""
    peer = connect(path, timeout)
    try:
        peer.sendall(line)
        data = b""
        while not data.endswith(b"\n"):
            chunk = peer.recv(65536)
            if not chunk:
                raise ConnectionError(f"no answer from {path}")
            data += chunk
    finally:
        peer.close()
    answer = plainjson.loads(data)
    return answer if isinstance(answer, dict) else {}
