"""Runs on the controller: what SSH and local have in common: connections, streams and exact reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Stream(Protocol):
    """A program's stdin, stdout and stderr on a host."""

    def read(self, timeout: float) -> bytes:
        """Some bytes of stdout, b"" at its end. Raises TimeoutError, ConnectionError."""

    def write(self, data: bytes) -> None:
        """All bytes to stdin. Raises TimeoutError, ConnectionError."""

    def errors(self) -> bytes:
        """What the program has written to stderr so far (the last 64 KiB)."""

    def end(self) -> None:
        """Closes the program's stdin."""

    def exit_code(self, timeout: float) -> int | None:
        """The exit code (negative: the signal), None where it is not known in time."""

    def close(self) -> None:
        """Ends everything; safe to call from another thread and twice."""


class Connection(Protocol):
    """A host that runs commands, each given as one line for the user's login shell."""

    def run(self, command: str) -> Stream: ...

    def close(self) -> None: ...


KEEP = 64 << 10


class Reader:
    """Exact reads from a stream, buffered. `timeout` is the longest silence allowed."""

    def __init__(self, stream: Stream, timeout: float) -> None:
        self.stream = stream
        self.timeout = timeout
        self._buffer = bytearray()
        self._ended = False

    def exactly(self, size: int) -> bytes:
        """That many bytes; fewer only where the stream ended."""
        buffer = self._buffer
        while len(buffer) < size and self._more():
            pass
        data = bytes(buffer[:size])
        del buffer[:size]
        return data

    def peek(self, enough: Callable[[bytes], bool]) -> bytes:
        """What is in the buffer, once it is enough or the stream has ended."""
        while not enough(bytes(self._buffer)) and self._more():
            pass
        return bytes(self._buffer)

    def skip(self, size: int) -> None:
        """Drop bytes that `peek` has shown."""
        del self._buffer[:size]

    def _more(self) -> bool:
        if not self._ended:
            data = self.stream.read(self.timeout)
            self._ended = not data
            self._buffer += data
        return not self._ended
