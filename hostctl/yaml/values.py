"""Runs on the controller: YAML values that know where they were written.

Maps and lists carry the positions of what is in them, so scalars stay plain Python values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


class Map(dict[Any, Any]):
    """A mapping. `marks`: key -> (line, column of the key, line, column of the value), 1-based."""

    __slots__ = ("column", "file", "line", "marks")

    def __init__(self, file: str, line: int, column: int) -> None:
        super().__init__()
        self.file = file
        self.line = line
        self.column = column
        self.marks: dict[Any, tuple[int, int, int, int]] = {}


class Seq(list[Any]):
    """A list. `marks` holds the (line, column) of each item, 1-based."""

    __slots__ = ("column", "file", "line", "marks")

    def __init__(self, file: str, line: int, column: int) -> None:
        super().__init__()
        self.file = file
        self.line = line
        self.column = column
        self.marks: list[tuple[int, int]] = []


class Decimal(float):
    """A float whose text says more than its value (`1.10`); as a string it is what was written."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Decimal:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Place:
    """Where a value was written: file, line, column (1-based) and the key path inside the file."""

    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""

    def __str__(self) -> str:
        position = self.file + (f":{self.line}:{self.column}" if self.line else "")
        return f"{position} ({self.path})" if self.path else position

    @property
    def position(self) -> str:
        """`file:line:column` without the key path."""
        return self.file + (f":{self.line}:{self.column}" if self.line else "")

    def key(self, container: Any, key: Any, *, name: bool = False) -> Place:
        """The place of `container[key]` (of the key itself with `name`), where `self` is the container's."""
        path = f"{self.path}[{key}]" if isinstance(key, int) else _join(self.path, str(key))
        if isinstance(container, Map) and key in container.marks:
            mark = container.marks[key]
            line, column = mark[:2] if name else mark[2:]
            return Place(container.file, line, column, path)
        if isinstance(container, Seq) and isinstance(key, int) and 0 <= key < len(container.marks):
            line, column = container.marks[key]
            return Place(container.file, line, column, path)
        return replace(self, path=path)

    def walk(self, container: Any, keys: Sequence[Any], *, name: bool = False) -> Place:
        """The place at the end of a key path, as near as positions are known."""
        place = self
        for index, key in enumerate(keys):
            place = place.key(container, key, name=name and index == len(keys) - 1)
            container = _child(container, key)
        return place


def place_of(value: Any, path: str = "") -> Place:
    """The place of a map or list that came from a file (an empty place for anything else)."""
    if isinstance(value, (Map, Seq)):
        return Place(value.file, value.line, value.column, path)
    return Place(path=path)


def placed(value: Any, raw: Any) -> Any:
    """A rendered map with the positions of what it was rendered from, as deep as both are maps."""
    if not isinstance(value, dict) or not isinstance(raw, Map):
        return value
    out = Map(raw.file, raw.line, raw.column)
    out.marks = raw.marks
    out.update((key, placed(item, raw.get(key))) for key, item in value.items())
    return out


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _child(container: Any, key: Any) -> Any:
    try:
        return container[key]
    except (KeyError, IndexError, TypeError):
        return None
