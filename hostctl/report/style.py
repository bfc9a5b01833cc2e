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


def host_colour(index: int) -> str:
    """The colour of the n-th host's prefix in `logs` and `exec`."""
    return HOST_COLOURS[index % len(HOST_COLOURS)]
