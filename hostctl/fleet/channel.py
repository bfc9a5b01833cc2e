"""Runs on the controller: a program on an SSH channel as a `Stream` (the channel object comes from `ssh.py`)."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from .stream import KEEP

WRITE_SILENCE = 20.0  # seconds without room for a single byte


class SshStream:
    """A program on an SSH channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._errors = bytearray()
        channel.settimeout(1.0)

    def read(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while True:
            self._drain()  # both streams share one window: unread stderr would stop stdout
            try:
                self._channel.settimeout(min(1.0, max(0.001, deadline - time.monotonic())))
                data = self._channel.recv(1 << 18)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                continue
            if not data and not self._channel.eof_received:
                raise ConnectionError("the connection was closed")
            return bytes(data)

    def _drain(self) -> None:
        while self._channel.recv_stderr_ready():
            self._errors += self._channel.recv_stderr(1 << 16)
            del self._errors[:-KEEP]

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        deadline = time.monotonic() + WRITE_SILENCE
        while view:
            try:
                sent = self._channel.send(bytes(view[: 1 << 17]))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                continue
            except Exception as error:
                raise ConnectionError(str(error)) from error
            if sent == 0:
                raise ConnectionError("the program has ended")
            deadline = time.monotonic() + WRITE_SILENCE
            view = view[sent:]

    def errors(self) -> bytes:
        self._drain()
        return bytes(self._errors)

    def end(self) -> None:
        with contextlib.suppress(Exception):
            self._channel.shutdown_write()

    def exit_code(self, timeout: float) -> int | None:
        if not self._channel.status_event.wait(timeout):
            return None
        code = self._channel.exit_status
        return code if code >= 0 else None

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._channel.close()
