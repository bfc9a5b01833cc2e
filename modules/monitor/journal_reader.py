"""Runs on the managed host, in the agent: reads a container's log from the journal, with the host's journalctl.

Source: journalctl(1); systemd's Journal Export Formats (JSON).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..agent.run import lines, run
from . import files
from .reader import Entry

if TYPE_CHECKING:
    from ..agent.host import Paths

_PAUSE = 0.5
_WANTED = "MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE,_SOURCE_REALTIME_TIMESTAMP"


class JournalReader:
    """As `reader.Reader`. It looks again every half second: each look is a process."""

    def __init__(self, paths: Paths, name: str, tail: int) -> None:
        self.name = name
        self._tail = tail
        self._match = f"CONTAINER_ID_FULL={files.identity(paths, name)}"
        self._cursor = ""
        self._open_lines: set[str] = set()
        self._looked = 0.0

    def past(self) -> Iterator[Entry]:
        """What is there, oldest first; afterwards `news` goes on from there."""
        options = [] if self._tail < 0 else [f"--lines={max(self._tail, 1)}"]
        for entry in self._read(*options):
            if self._tail:
                yield entry

    def news(self, *, last: bool = False) -> Iterator[Entry]:
        """What came since the last look; with `last` all that was ever said is there."""
        if last:
            run(["journalctl", "--sync"])
        elif time.monotonic() - self._looked < _PAUSE:
            return
        yield from self._read(*([f"--after-cursor={self._cursor}"] if self._cursor else []))
        self._looked = time.monotonic()

    def _read(self, *options: str) -> Iterator[Entry]:
        form = ("--output=json", f"--output-fields={_WANTED}", "--all", "--no-pager", "--quiet")
        for line in lines(["journalctl", *form, *options, self._match]):
            data: dict[str, Any] = json.loads(line)
            self._cursor = data["__CURSOR"]
            yield self._entry(data)

    def _entry(self, data: dict[str, Any]) -> Entry:
        said = data.get("MESSAGE") or ""
        # Where it is no UTF-8, or has control characters, it is an array of bytes.
        text = said if isinstance(said, str) else bytes(said).decode("utf-8", "replace")
        stream = "stderr" if data.get("PRIORITY") == "3" else "stdout"
        begins = stream not in self._open_lines
        if data.get("CONTAINER_PARTIAL_MESSAGE") == "true":
            self._open_lines.add(stream)
        else:
            self._open_lines.discard(stream)
            text += "\n"
        micro = int(data.get("_SOURCE_REALTIME_TIMESTAMP") or data["__REALTIME_TIMESTAMP"])
        seconds, rest = divmod(micro, 1_000_000)
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return Entry(f"{when}.{rest:06}000Z", self.name, stream, text, begins)
