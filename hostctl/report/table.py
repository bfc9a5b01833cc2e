"""Runs on the controller: rows as a table in columns, as `ps` prints them."""

from __future__ import annotations

from collections.abc import Sequence

from .style import printable


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, three spaces apart; the last one is not padded."""
    lines = [[_cell(text) for text in line] for line in (header, *rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def _cell(text: str) -> str:
    """One line of it, and nothing that steers a terminal."""
    return printable(" ".join(text.splitlines())).replace("\t", " ")
