"""Runs on the controller: output of many sources on one stream, whole lines, each behind its source's name."""

from __future__ import annotations

import threading
from typing import BinaryIO

from hostctl.report.style import Style, host_colour


class Prefixer:
    """Writes lines of several sources to one binary stream without mixing them.

    Without prefixes (one source) bytes pass through as they come.
    """

    def __init__(self, stream: BinaryIO, style: Style, *, prefixed: bool) -> None:
        self._stream = stream
        self._style = style
        self._prefixed = prefixed
        self._rests: dict[str, bytes] = {}
        self._prefixes: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._width = 0

    def expect(self, names: list[str]) -> None:
        """Give all these sources one width and a colour each, in this order."""
        self._width = max((len(name) for name in names), default=0)
        for name in names:
            self._prefix(name)

    def write(self, source: str, data: bytes) -> None:
        """Bytes of a source; an unfinished line waits for its end."""
        with self._lock:
            if not self._prefixed:
                self._stream.write(data)
                self._stream.flush()
                return
            *lines, rest = (self._rests.pop(source, b"") + data).split(b"\n")
            if rest:
                self._rests[source] = rest
            self._lines(source, lines)

    def finish(self, source: str) -> None:
        """The source has ended: its unfinished line comes out."""
        with self._lock:
            rest = self._rests.pop(source, b"")
            if rest:
                self._lines(source, [rest])

    def _lines(self, source: str, lines: list[bytes]) -> None:
        prefix = self._prefix(source)
        self._stream.write(b"".join(prefix + line + b"\n" for line in lines))
        self._stream.flush()

    def _prefix(self, source: str) -> bytes:
        if source not in self._prefixes:
            colour = host_colour(len(self._prefixes))
            text = self._style.paint(f"{source:<{self._width}} |", colour)
            self._prefixes[source] = text.encode() + b" "
        return self._prefixes[source]
