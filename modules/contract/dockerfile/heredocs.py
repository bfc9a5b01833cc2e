"""Runs in both worlds: which words of a line begin a heredoc, and what its lines become."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)")
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True)
class Opening:
    """`[fd]<<[-]WORD` as it stands in a line."""

    name: str
    expand: bool
    strip_tabs: bool


def parse_heredoc(text: str) -> Opening | None:
    """The heredoc that a text is, if it is one and nothing else.

    The escape is a backslash here, whatever the directive says, as in a shell.
    """
    from .expand import split_words

    match = _HEREDOC.fullmatch(text)
    if match is None or not match[3]:
        return None
    plain = split_words(match[3], raw=False)
    raw = split_words(match[3], raw=True)
    if plain is None or raw is None or len(plain) != 1 or len(raw) != 1:
        return None
    return Opening(plain[0], expand=plain == raw, strip_tabs=bool(match[2]))


def find_heredocs(line: str) -> list[Opening]:
    """All that a line opens, in order. A line whose quotes do not match has none."""
    from .expand import split_words

    found = (parse_heredoc(word) for word in split_words(line, raw=True) or ())
    return [one for one in found if one is not None]


def strip_tabs(text: str) -> str:
    """What `<<-` does with each line."""
    return _LEADING_TABS.sub("", text)
