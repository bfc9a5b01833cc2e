"""Runs on the managed host, in the agent: reads a container's log, what is there and what follows."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, NamedTuple

from . import files
from .rotation import NAME

if TYPE_CHECKING:
    from ..agent.host import Paths
    from .journal_reader import JournalReader

_BLOCK = 1 << 20


class Entry(NamedTuple):
    """One entry. `begins`: a line begins here (it was not cut before); `last`: nothing follows now."""

    time: str
    name: str
    stream: str
    text: str
    begins: bool
    last: bool = False


def of(paths: Paths, name: str, tail: int) -> Reader | JournalReader:
    """The reader of the container's log, wherever that is; for the arguments see `Reader`."""
    if files.settings(paths, name).log_driver == "journald":
        from .journal_reader import JournalReader

        return JournalReader(paths, name, tail)
    return Reader(paths, name, tail)


class Reader:
    """One container's log in files.

    Args:
        tail: only so many of the last entries of what is there; negative for all.
    """

    def __init__(self, paths: Paths, name: str, tail: int) -> None:
        self.name = name
        self._tail = tail
        self._path = os.path.join(paths.container(name), "log", NAME)
        self._stream: IO[bytes] | None = None
        self._rest = b""
        self._open_lines: set[str] = set()

    def past(self) -> Iterator[Entry]:
        """What is there, oldest first; afterwards `news` goes on from there."""
        self._open()
        now = self._read()
        if self._tail == 0:
            return
        # All at once: while the first is read, a rotation gives the others new names.
        rotated = self._rotated()
        if self._tail < 0:
            for stream in reversed(rotated):
                with stream:
                    for line in stream:
                        yield from self._entry(line)
            for line in now:
                yield from self._entry(line)
            return
        lines = now[-self._tail :]
        for stream in rotated:
            with stream:
                if len(lines) < self._tail:
                    lines = stream.readlines()[-(self._tail - len(lines)) :] + lines
        for line in lines:
            yield from self._entry(line)

    def news(self, *, last: bool = False) -> Iterator[Entry]:  # noqa: ARG002 (written at once)
        """What came since the last look, with `last` the last one. A rotation in between is read to its end first."""
        for line in self._read():
            yield from self._entry(line)
        if self._rotated_away():
            self._open()
            for line in self._read():
                yield from self._entry(line)

    def _rotated(self) -> list[IO[bytes]]:
        """Rotated files, newest first; not the one that has been read already, as container.log."""
        found: list[IO[bytes]] = []
        for number in range(1, 1000):
            stream = _opened(f"{self._path}.{number}") or _opened(f"{self._path}.{number}.gz")
            if stream is None:
                break
            if self._stream and os.path.sameopenfile(self._stream.fileno(), stream.fileno()):
                stream.close()
            else:
                found.append(stream)
        return found

    def _open(self) -> None:
        if self._stream is not None:
            self._stream.close()
        try:
            self._stream = open(self._path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            self._stream = None
        self._rest = b""

    def _rotated_away(self) -> bool:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False
        return self._stream is None or not os.path.samestat(now, os.fstat(self._stream.fileno()))

    def _read(self) -> list[bytes]:
        if self._stream is None:
            return []
        data = self._rest + self._stream.read()
        lines = data.split(b"\n")
        self._rest = lines.pop()
        return lines

    def _entry(self, line: bytes) -> Iterator[Entry]:
        try:
            data = json.loads(line)
            text, stream, time = data["log"], data["stream"], data["time"]
        except (ValueError, KeyError, TypeError):
            return  # a line that a full disk or a power cut has damaged
        begins = stream not in self._open_lines
        if text.endswith("\n"):
            self._open_lines.discard(stream)
        else:
            self._open_lines.add(stream)
        yield Entry(time, self.name, stream, text, begins)


def _opened(path: str) -> IO[bytes] | None:
    """None where there is none, or no longer: who writes it rotates and compresses meanwhile."""
    try:
        if path.endswith(".gz"):
            import gzip

            return gzip.open(path, "rb")  # type: ignore[return-value]
        return open(path, "rb")
    except FileNotFoundError:
        return None


def merge(sources: Iterable[Iterator[Entry]]) -> Iterator[Entry]:
    """All entries by time; the last one is marked."""
    before: Entry | None = None
    for entry in heapq.merge(*sources, key=lambda item: item.time):
        if before is not None:
            yield before
        before = entry
    if before is not None:
        yield before._replace(last=True)
