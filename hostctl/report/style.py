"""Runs on the controller: colours and glyphs that the terminal at hand can show, as plain ANSI.

rich is not imported for this: it costs more than the whole text of an ordinary run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TextIO

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
}
_CONTROLS = "\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f"
_DIRECTIONS = "\u200e\u200f\u202a-\u202e\u2066-\u2069"
_OURS = rf"\[(?:{'|'.join(['0', *_CODES.values()])})(?:;[0-9]+)*m"
_STEERING = rf"[{_CONTROLS}{_DIRECTIONS}]|\x1b(?!{_OURS})"
HOST_COLOURS = ("cyan", "magenta", "green", "yellow")


@dataclass(frozen=True)
class Style:
    """How to paint. The default paints nothing and uses Unicode."""

    colour: bool = False
    unicode: bool = True

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """The style for a stream: colour on a terminal unless `NO_COLOR`, Unicode where it is encoded."""
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        forced = bool(os.environ.get("FORCE_COLOR"))
        return cls(
            colour=(terminal or forced) and not os.environ.get("NO_COLOR"),
            unicode=encoding == "utf8",
        )

    def paint(self, text: str, *names: str) -> str:
        """The text in these colours, or as it is."""
        if not self.colour or not names or not text:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"

    @property
    def arrow(self) -> str:
        """Between before and after."""
        return "→" if self.unicode else "->"

    @property
    def cross(self) -> str:
        """In front of a failure."""
        return "✗" if self.unicode else "x"

    @property
    def ellipsis(self) -> str:
        """Where something was cut."""
        return "…" if self.unicode else "..."


def printable(text: str) -> str:
    """The text without what would steer a terminal, but for line ends, tabs and our own colours.

    What hosts say may come from a container, which would else write to the clipboard, or over other lines.
    """
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    import re

    return re.sub(_STEERING, lambda match: ascii(match[0])[1:-1], text)


def host_colour(index: int) -> str:
    """The colour of the n-th host's prefix in `logs` and `exec`."""
    return HOST_COLOURS[index % len(HOST_COLOURS)]
