"""Runs on the controller: bytes of a blob that come from one host and go to many, each at its own pace.

They lie in a file without a name: a slow reader costs no memory and holds nobody up, and a controller that is
killed leaves nothing.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from typing import IO

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.frames import BLOB_CHUNK

_GLANCE = 1.0


class Spool:
    """One blob. It is written in ranges, each from its start on, and read wherever it has been written."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.error: HostctlError | None = None
        self._file: IO[bytes] = _unnamed()
        self._ranges: list[list[int]] = []  # [start, filled, end]
        self._news = threading.Condition()

    def missing(self, offset: int) -> tuple[int, int] | None:
        """The range that has to be asked for, so that everything from there on comes; it counts as asked for."""
        with self._news:
            known = min((start for start, _, _ in self._ranges), default=self.size)
            if offset >= known:
                return None
            self._ranges.append([offset, offset, known])
            return offset, known

    def write(self, offset: int, body: bytes) -> None:
        """The next bytes of a range. Raises HostctlError where the disk is full."""
        try:
            done = 0
            while done < len(body):
                done += os.pwrite(self._file.fileno(), body[done:], offset + done)
        except OSError as error:
            raise HostctlError(
                f"cannot keep what is shipped in {tempfile.gettempdir()}: {error.strerror}",
                hint="free some space there, or set TMPDIR to a larger folder",
                ref="disk-full",
            ) from error
        with self._news:
            for one in self._ranges:
                if one[1] == offset and offset < one[2]:
                    one[1] += len(body)
            self._news.notify_all()

    def read(self, position: int, stopped: Callable[[], bool]) -> bytes:
        """Bytes from there on, at most a piece; waits until there are some; none where it is stopped.

        Raises:
            HostctlError: no more will come.
        """
        with self._news:
            while not (filled := self._filled(position)):
                if stopped():
                    return b""
                if self.error is not None:
                    raise self.error
                self._news.wait(_GLANCE)
        return os.pread(self._file.fileno(), min(BLOB_CHUNK, filled - position), position)

    def fail(self, error: HostctlError) -> None:
        """Nothing more comes. What is there can still be read."""
        with self._news:
            self.error = self.error or error
            self._news.notify_all()

    def close(self) -> None:
        """Give the bytes up."""
        self._file.close()

    def _filled(self, position: int) -> int:
        return max((f for s, f, _ in self._ranges if s <= position < f), default=0)


def _unnamed() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(prefix="hostctl-")
    except OSError as error:
        raise HostctlError(
            f"cannot make a file in {tempfile.gettempdir()}: {error.strerror}",
            hint="set TMPDIR to a folder that can be written",
            ref="disk-full",
        ) from error
