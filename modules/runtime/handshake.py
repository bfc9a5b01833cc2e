"""Runs on the managed host: the conversation of a new container's first process with its parent.

One packet, one message. A failure travels as the same error that it was in the child; the end of the
stream (the socket is close-on-exec) says that the program has been executed. Where the parent does not
stay, the first process goes on to wait at a listening socket, and has the same conversation there.
"""

from __future__ import annotations

import _socket as socket
import os
import struct

from ..contract import plainjson
from ..contract.errors import HostctlError
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

DEADLINE = 60.0
_PATIENCE = 10.0
_PACKET = 64 << 10
_FDS = 64


class Handshake:
    """Both ends are made before the clone; each side then calls `parent()` or `child()`.

    Args:
        waiting: a listening socket (SOCK_SEQPACKET) at which the child takes its last word, from anyone
            who may connect, instead of from its parent; -1 for none. It stays the caller's.
    """

    def __init__(self, waiting: int = -1) -> None:
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._waiting = waiting

    @classmethod
    def connect(cls, path: str) -> Handshake:
        """The parent's end of a conversation with a child that waits. Raises OSError: it does not."""
        made = cls()
        made.close()
        made._near = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made._near.settimeout(DEADLINE)
        made._near.connect(path)
        return made

    def parent(self) -> None:
        self._far.close()
        self._near.settimeout(DEADLINE)

    def child(self) -> None:
        self._near.close()
        self._near = self._far

    def fileno(self) -> int:
        return self._near.fileno()

    def filenos(self) -> list[int]:
        """The child's descriptors that are to stay open until it executes its program."""
        return [self._near.fileno()] + ([self._waiting] if self._waiting >= 0 else [])

    def close(self) -> None:
        self._near.close()
        self._far.close()

    def send(self, word: str, fds: list[int] | None = None) -> None:
        """Say one word, with descriptors if the other side is to have them."""
        self._send({"word": word}, fds or [])

    def expect(self, word: str) -> list[int]:
        """Wait for the word; its descriptors. Raises what the other side failed with."""
        message, fds = self._receive()
        if message is None or message.get("word") != word:
            _fail(message)
        return fds

    @property
    def waits(self) -> bool:
        """Whether the child is to take its last word at a listening socket."""
        return self._waiting >= 0

    def wait_for(self, word: str) -> None:
        """Child: wait for its last word, for ever. Who connects and leaves without it changes nothing."""
        if self._waiting < 0:
            self.expect(word)
            return
        listener = socket.socket(fileno=self._waiting)
        while True:
            # The number stays the same: others have been told to keep it open.
            peer, _ = listener._accept()  # type: ignore[attr-defined]
            os.dup2(peer, self._near.fileno(), inheritable=False)
            os.close(peer)
            self._near.settimeout(_PATIENCE)
            try:
                message, _ = self._receive()
            except (OSError, RuntimeFailure):
                continue
            if message is not None and message.get("word") == word:
                break
        listener.close()

    def receive(self) -> tuple[str, list[int]]:
        """Wait for any word, and its descriptors. Raises what the other side failed with."""
        message, fds = self._receive()
        if message is None or "word" not in message:
            _fail(message)
        return str(message["word"]), fds

    def expect_end(self) -> None:
        """Wait for the other side to execute its program. Raises what it failed with."""
        message, _ = self._receive()
        if message is not None:
            _fail(message)

    def reason(self) -> RuntimeFailure | None:
        """What the other side failed with, where this side has just met its end; None if it said nothing."""
        self._near.settimeout(1.0)
        for _ in range(4):
            try:
                message, fds = self._receive()
            except ConnectionError:
                continue  # what was sent before the end is still there to be read
            except (OSError, RuntimeFailure):
                return None
            for fd in fds:
                os.close(fd)
            if message is None:
                return None
            if isinstance(message.get("error"), dict):
                return revive(message["error"])  # type: ignore[arg-type]
        return None

    def send_error(self, error: BaseException) -> None:
        """Pass the failure on; never raises, because its caller is about to exit."""
        try:
            self._send({"error": describe(error)}, [])
        except OSError:
            return

    def _send(self, message: dict[str, object], fds: list[int]) -> None:
        packed = struct.pack(f"={len(fds)}i", *fds)
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)] if fds else []
        self._near.sendmsg([plainjson.dumps(message).encode()], control)

    def _receive(self) -> tuple[dict[str, object] | None, list[int]]:
        fds: list[int] = []
        try:
            data, control, _, _ = self._near.recvmsg(
                _PACKET, socket.CMSG_SPACE(_FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except socket.timeout as error:
            raise RuntimeFailure(
                f"cannot create the container: its first process said nothing for {DEADLINE:g} s",
                ref="container-stuck",
            ) from error
        for level, kind, payload in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds += struct.unpack(f"={len(payload) // 4}i", payload[: len(payload) // 4 * 4])
        return (plainjson.loads(data) if data else None), fds


def describe(error: BaseException) -> dict[str, object]:
    """An error as JSON that `revive` turns back."""
    if isinstance(error, HostctlError):
        return {
            "message": error.message,
            "where": error.where,
            "hint": error.hint,
            "ref": error.ref,
            "code": getattr(error, "code", 125),
        }
    if isinstance(error, OSError):
        what = f" {os.fsdecode(error.filename)}" if error.filename else ""
        call = str(error.strerror or error)
        return {"message": f"cannot create the container:{what} {call}", "ref": "container-failed"}
    return {
        "message": f"cannot create the container: {type(error).__name__}: {error}",
        "ref": "container-failed",
    }


def revive(data: dict[str, object]) -> RuntimeFailure:
    """The error that `describe` described."""
    code = data.get("code", 125)
    return RuntimeFailure(
        str(data.get("message", "cannot create the container")),
        where=str(data.get("where", "")),
        hint=str(data.get("hint", "")),
        ref=str(data.get("ref", "container-failed")),
        code=code if isinstance(code, int) else 125,
    )


def _fail(message: dict[str, object] | None) -> NoReturn:
    error = None if message is None else message.get("error")
    if isinstance(error, dict):
        raise revive(error)
    raise RuntimeFailure(
        "cannot create the container: its first process ended before it was ready",
        ref="container-failed",
    )
