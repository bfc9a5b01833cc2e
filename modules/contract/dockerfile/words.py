"""Runs in both worlds: how the rest of an instruction is split: words, quoted words, JSON, flags."""

from __future__ import annotations

import json
import re

from .errors import DockerfileError
from .expand import SPACES

_GAP = re.compile(r"[\t\v\f\r ]+")
_BLANK = "".join(SPACES)


def split_plain(rest: str) -> list[str]:
    """At spaces, whatever the quotes: FROM, EXPOSE, COPY, ADD and VOLUME without JSON."""
    return _GAP.split(rest) if rest else []


def split_once(text: str) -> tuple[str, str]:
    """The first word and what follows it."""
    first, *rest = _GAP.split(text, maxsplit=1)
    return first, rest[0].strip(_BLANK) if rest else ""


def split_quoted(rest: str, escape: str) -> list[str]:
    """At spaces outside of quotes; quotes and escapes stay: ENV, LABEL, ARG."""
    words = []
    word: list[str] = []
    quote = ""
    position = 0
    while position < len(rest):
        char = rest[position]
        position += 1
        if not quote and char in SPACES:
            if word:
                words.append("".join(word))
                word = []
            continue
        if char == escape and quote != "'":
            if position == len(rest):
                break  # at the very end it escapes nothing
            word.append(char)
            char = rest[position]
            position += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word.append(char)
    if word:
        words.append("".join(word))
    return words


def parse_json(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON list; None where the text is none, which makes it the other form.

    Raises:
        DockerfileError: a JSON list of something else than strings.
    """
    if not rest.startswith("["):
        return None
    try:
        value = json.loads(rest, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(one, str) for one in value):
        raise DockerfileError(
            "cannot use a JSON list of anything but strings", hint='write ["program", "argument"]'
        )
    return tuple(value)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def split_flags(rest: str) -> tuple[list[str], str]:
    """The words with `--` at the beginning, without quotes, and what follows them. `--` alone ends them."""
    flags: list[str] = []
    position = 0
    while True:
        while position < len(rest) and rest[position] in SPACES:
            position += 1
        if not rest.startswith("--", position):
            return flags, rest[position:]
        word, position = _flag(rest, position)
        if word == "--":
            return flags, rest[position:].strip(_BLANK)
        flags.append(word)


def _flag(rest: str, position: int) -> tuple[str, int]:
    word = []
    quote = ""
    while position < len(rest):
        char = rest[position]
        if not quote and char in SPACES:
            break
        position += 1
        if char == "\\":
            word.append(rest[position : position + 1])
            position += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            word.append(char)
    return "".join(word), min(position, len(rest))
