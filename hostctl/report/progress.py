"""Runs on the controller: what the hosts are doing right now, on stderr: live lines on a terminal, else narration.

Live lines stand below everything else and are drawn again at most ten times a second. Frames come from
the threads of the fleet, so every public method takes the lock.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TextIO

from .style import Style, printable

_INTERVAL = 0.1
_FINISHED = ("ok", "changed", "failed", "skipped")


class Named(Protocol):
    """A host of the inventory."""

    @property
    def name(self) -> str: ...


class Speaker(Protocol):
    """One host's part of a play, as far as progress is concerned."""

    @property
    def host(self) -> Named: ...

    @property
    def messages(self) -> list[tuple[str, str]]: ...


@dataclass
class _Line:
    """One running host: how many resources are done, and what it said last."""

    done: int = 0
    text: str = "connecting"


class Progress:
    """A context manager around the part of a run that touches hosts.

    Args:
        live: draw live lines (the stream is a terminal).
        verbose: 1 tells each finished resource, 2 everything that a host says.
    """

    def __init__(self, stream: TextIO, style: Style, *, live: bool, verbose: int = 0) -> None:
        self._stream = stream
        self._style = style
        self._live = live
        self._verbose = verbose
        self._hosts: dict[str, _Line] = {}
        self._drawn = 0
        self._drawn_at = 0.0
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._hosts.clear()
            self._erase()
            self._stream.flush()

    @contextmanager
    def showing(self, programs: Iterable[Speaker]) -> Iterator[None]:
        """Lines for these hosts while they are at work; then what their `debug` tasks say."""
        listed = list(programs)
        for program in listed:
            self.start(program.host.name)
        try:
            yield
        finally:
            for program in listed:
                self.finish(program.host.name)
        for program in listed:
            for task, text in program.messages:
                self.tell(f"{program.host.name}: {task}: {text}")

    def start(self, host: str) -> None:
        """The host gets a line."""
        with self._lock:
            self._hosts[host] = _Line()
            self._draw()

    def finish(self, host: str) -> None:
        """The host's line goes."""
        with self._lock:
            self._hosts.pop(host, None)
            self._draw(force=True)

    def tell(self, text: str) -> None:
        """A line of narration that stays."""
        with self._lock:
            self._tell(text)

    def event(self, host: str, frame: dict[str, Any]) -> None:
        """One frame of a host's agent; frames without news for people are ignored."""
        with self._lock:
            match frame.get("type"):
                case "hello":
                    self._say(host, "connected")
                case "need":
                    self._say(host, f"sends {len(frame.get('digests', ()))} files")
                case "waiting":
                    text = f"waits for {holder_text(frame.get('holder') or {})}"
                    self._say(host, text)
                    self._tell_once(f"{host}: {text}")
                case "progress":
                    self._resource(host, frame)
            self._draw()

    def _resource(self, host: str, frame: dict[str, Any]) -> None:
        resource, state = str(frame.get("id", "")), str(frame.get("state", ""))
        message = str(frame.get("message") or "")
        if state in _FINISHED:
            self._hosts.setdefault(host, _Line()).done += 1
        text = f"{state} {resource}" + (f": {message}" if message else "")
        self._say(host, text)
        if (self._verbose and state in _FINISHED) or self._verbose > 1:
            self._tell(f"{host}: {text}")

    def _say(self, host: str, text: str) -> None:
        self._hosts.setdefault(host, _Line()).text = text

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    def _tell(self, text: str) -> None:
        self._erase()
        self._stream.write(printable(text) + "\n")
        self._draw(force=True)
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\r\x1b[J")
            self._drawn = 0

    def _draw(self, force: bool = False) -> None:
        now = time.monotonic()
        if not self._live or (not force and now - self._drawn_at < _INTERVAL):
            return
        self._erase()
        size = shutil.get_terminal_size()
        names = list(self._hosts)
        shown = names if len(names) < size.lines else names[: max(size.lines - 2, 1)]
        width = max((len(name) for name in shown), default=0)
        lines = [self._text(name, width)[: size.columns - 1] for name in shown]
        if len(shown) < len(names):
            lines.append(f"and {len(names) - len(shown)} more hosts")
        self._stream.write("".join(self._style.paint(line, "dim") + "\n" for line in lines))
        self._stream.flush()
        self._drawn, self._drawn_at = len(lines), now

    def _text(self, name: str, width: int) -> str:
        line = self._hosts[name]
        done = f"{line.done:>3} done  " if line.done else ""
        return f"{name:<{width}}  {done}{printable(' '.join(line.text.split()))}"


def holder_text(holder: dict[str, Any]) -> str:
    """Who holds a host's lock, for people."""
    who = holder.get("who") or "another hostctl"
    text = f"the lock held by {who} ({holder.get('action') or 'run'}"
    if holder.get("pid"):
        text += f", pid {holder['pid']}"
    if holder.get("since"):
        text += f", since {_since(holder['since'])}"
    return text + ")"


def _since(value: Any) -> str:
    if isinstance(value, (int, float)):
        return time.strftime("%H:%M:%S", time.localtime(value))
    return str(value)
