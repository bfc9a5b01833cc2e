"""Runs on the managed host, in a monitor: the container's log in Docker's json-file format.

One object a line: `log` (with its newline, without it where a line was cut), `stream`, `time`. Nothing
here may stop the container: what cannot be written is dropped, counted, and said once it can be.
"""

from __future__ import annotations

import os
import time
from _json import encode_basestring

from . import apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

MAX_LINE = 16 << 10
STEP = 1 << 20
_SECOND = 1_000_000_000
_ENDS = ('","stream":"stdout","time":"', '","stream":"stderr","time":"')


class Log:
    """The log behind the descriptor `apart.LOG`.

    Args:
        limit: bytes after which it is rotated; 0 for never.
        rotate: puts another file behind the descriptor.
        grown: is told of every further `STEP` bytes.
    """

    def __init__(
        self, limit: int, rotate: Callable[[], object], grown: Callable[[], object]
    ) -> None:
        self._limit = limit
        self._rotate = rotate
        self._grown = grown
        self._rest = [b"", b""]
        self._second = 0
        self._prefix = ""
        self.dropped = 0

    def feed(self, fd: int, data: bytes) -> None:
        """Take bytes of STDOUT or STDERR; whole lines are written, the rest waits for its newline."""
        which = fd - apart.STDOUT
        end = self._end(which)
        lines = (self._rest[which] + data).split(b"\n")
        rest = lines.pop()
        out: list[str] = []
        for line in lines:
            if len(line) > MAX_LINE:
                line = _cut(line, end, out)
            out.append('{"log":' + encode_basestring(line.decode("utf-8", "replace"))[:-1])
            out.append("\\n" + end)
        self._rest[which] = _cut(rest, end, out) if len(rest) >= MAX_LINE else rest
        if out:
            self._write(out)

    def flush(self) -> None:
        """Write what still waits for a newline: the container has ended."""
        for which, rest in enumerate(self._rest):
            if rest:
                self._rest[which] = b""
                self._write([_open(rest), self._end(which)])

    def _end(self, which: int) -> str:
        nano = time.time_ns()
        if nano // _SECOND != self._second:
            self._second = nano // _SECOND
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(self._second))
        return _ENDS[which] + self._prefix + str(nano % _SECOND).zfill(9) + 'Z"}\n'

    def _write(self, parts: list[str]) -> None:
        """Write entries, of which each is two parts."""
        if self.dropped:
            said = f"hostctl dropped {self.dropped} log lines: the disk was full"
            parts = [_open(said.encode()), "\\n" + self._end(1), *parts]
        data = "".join(parts).encode()
        try:
            # Not where it wrote last: somebody else may have emptied the file meanwhile.
            at = os.lseek(apart.LOG, 0, os.SEEK_END)
            if self._limit and at + len(data) > self._limit:
                if len(parts) > 2 and len(data) > self._limit:
                    half = len(parts) // 4 * 2
                    self.dropped = 0
                    self._write(parts[:half])
                    self._write(parts[half:])
                    return
                if at:
                    self._rotate()
                    at = os.lseek(apart.LOG, 0, os.SEEK_END)
            if at // STEP < (at + len(data)) // STEP:
                self._grown()
            written = os.write(apart.LOG, data)
            if written < len(data):
                os.ftruncate(apart.LOG, at)
                raise OSError(28, "no space left")
            self.dropped = 0
        except OSError:
            self.dropped += len(parts) // 2 - (1 if self.dropped else 0)


def _open(line: bytes) -> str:
    """The line as an opened JSON string."""
    return '{"log":' + encode_basestring(line.decode("utf-8", "replace"))[:-1]


def _cut(line: bytes, end: str, out: list[str]) -> bytes:
    """Full pieces of a line that is too long for one entry; what is left of it."""
    while len(line) >= MAX_LINE:
        out += (_open(line[:MAX_LINE]), end)
        line = line[MAX_LINE:]
    return line
