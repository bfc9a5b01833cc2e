"""Runs in both worlds: one matcher for all patterns of Dockerfiles, whose time is bounded whatever the pattern.

Python's `re` goes back and forth in patterns with several wildcards; here all ways are followed at once, so a text
of n characters takes at most n times the pattern's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, Union

Test = Callable[[str], bool]


@dataclass(frozen=True)
class Many:
    """Any number of characters that pass `test`. With `slash`, nothing, or anything up to a slash."""

    test: Test
    slash: bool = False


Token = Union[str, Test, Many]
"""A literal character, a test for one character, or any number of them."""


class Glob:
    """A pattern, ready to match.

    A state is the number of tokens behind; a negative one, -n-1, is inside of token n, a `Many` that must end
    with a slash.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tuple(tokens)
        last = len(self.tokens)
        self._reached: dict[int, frozenset[int]] = {last: frozenset({last})}
        """By state: itself, and those that are reached from it without a character."""
        for state in range(last - 1, -1, -1):
            token = self.tokens[state]
            reached = {state}
            if isinstance(token, Many):
                reached |= self._reached[state + 1]
                if token.slash:
                    reached.add(-state - 1)
            self._reached[state] = frozenset(reached)

    def ends(self, text: str, start: int = 0) -> Iterator[int]:
        """Where a match that begins at `start` may end, in ascending order."""
        last = len(self.tokens)
        states: Iterable[int] = self._reached[0]
        if last in self._reached[0]:
            yield start
        for position in range(start, len(text)):
            states = self._step(states, text[position])
            if not states:
                return
            if last in states:
                yield position + 1

    def matches(self, text: str) -> bool:
        """The whole text is matched."""
        return any(end == len(text) for end in self.ends(text))

    def _step(self, states: Iterable[int], char: str) -> set[int]:
        """The states after one more character."""
        following: set[int] = set()
        for state in states:
            if state == len(self.tokens):
                continue
            token = self.tokens[state if state >= 0 else -state - 1]
            if isinstance(token, str):
                if token == char:
                    following |= self._reached[state + 1]
            elif not isinstance(token, Many):
                if token(char):
                    following |= self._reached[state + 1]
            elif state < 0 and token.test(char):
                following.add(state)
                if char == "/":
                    following |= self._reached[-state]
            elif state >= 0 and not token.slash and token.test(char):
                following |= self._reached[state]
        return following


class BadPattern(ValueError):
    """A pattern that Go's `filepath.Match` refuses. Its text is the reason."""


def not_slash(char: str) -> bool:
    return char != "/"


def read_character(pattern: str, position: int) -> tuple[Token, int]:
    """The token for one character that is no `*`: `?`, `[...]`, `\\x` or itself; and where the next begins.

    Raises:
        BadPattern: a set without its end, an escape of nothing.
    """
    char = pattern[position]
    position += 1
    if char == "?":
        return not_slash, position
    if char == "[":
        return _read_class(pattern, position)
    if char == "\\":
        if position == len(pattern):
            raise BadPattern("an escape at its end")
        return pattern[position], position + 1
    return char, position


def _read_class(pattern: str, position: int) -> tuple[Test, int]:
    """The test that a `[...]` is, and where it ends. `position` is after the bracket."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern[position : position + 1] == "]"):
        low, position = _class_character(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _class_character(pattern, position + 1)
        ranges.append((low, high))
    return lambda char: any(low <= char <= high for low, high in ranges) != negated, position + 1


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    elif char in ("-", "]"):
        raise BadPattern(f"an unescaped {char} at the begin of a set")
    if not char:
        raise BadPattern("a [ without its ]")
    return char, position + 1
