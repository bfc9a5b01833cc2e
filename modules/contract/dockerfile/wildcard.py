"""Runs in both worlds: wildcards of COPY's and ADD's sources: Go's `filepath.Match`."""

from __future__ import annotations

from functools import lru_cache

from .errors import DockerfileError
from .glob import BadPattern, Glob, Many, Token, not_slash, read_character


def is_pattern(source: str) -> bool:
    """It has a wildcard or an escape; else it is a path."""
    return any(char in source for char in "*?[\\")


def match(pattern: str, path: str) -> bool:
    """The whole path is matched; `*` and `?` match no slash.

    Raises:
        DockerfileError: `[` without `]`, or an escape at the end.
    """
    try:
        return _glob(pattern).matches(path)
    except BadPattern as error:
        raise DockerfileError(
            f"cannot use the pattern {pattern!r}: {error}",
            hint="write \\ before a character that is meant as itself",
            ref="dockerfile-pattern",
        ) from None


@lru_cache(maxsize=64)
def _glob(pattern: str) -> Glob:
    return Glob(_tokens(pattern))


def _tokens(pattern: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while position < len(pattern):
        if pattern[position] == "*":
            position += 1
            if not (tokens and isinstance(tokens[-1], Many)):
                tokens.append(Many(not_slash))
        else:
            token, position = read_character(pattern, position)
            tokens.append(token)
    return tokens
