"""Runs on the controller: templates of plain references (`{{ name }}`, `{{ a.b.c }}`) without Jinja.

Most values are like that, and importing Jinja and compiling with it is what a run without changes spends
most of its time on. Whatever is not plainly a reference to something that exists is left to Jinja.
"""

from __future__ import annotations

import re
from typing import Any

from .scope import MISSING, Result, Scope

_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*\}\}")
_OTHER = re.compile(r"\{[{%#]|[}%#]\}|^\}")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z")
_WORDS = frozenset(
    (
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
        "not",
        "and",
        "or",
        "if",
        "else",
        "in",
        "is",
        "omit",
    )
)


def render(text: str, scope: Scope) -> Any:
    """The rendered text (the value itself where it is one whole reference), or MISSING: ask Jinja.

    Raises:
        Deferred, UnknownResult, TemplateError: from the variables.
    """
    whole = _REFERENCE.fullmatch(text)
    if whole:
        return lookup(whole[1], scope)
    parts = _REFERENCE.split(text)
    if any(_OTHER.search(part) or part.endswith("{") for part in parts[::2]):
        return MISSING  # braces of any other kind: Jinja may see more in them
    for index in range(1, len(parts), 2):
        value = lookup(parts[index], scope)
        if value is MISSING or not isinstance(value, (str, int, float, type(None))):
            return MISSING
        parts[index] = "" if value is None else str(value)
    return "".join(parts)


def condition(text: str, scope: Scope) -> Any:
    """The value of a condition that is one reference, or MISSING."""
    return lookup(text, scope) if _NAME.match(text) else MISSING


def lookup(path: str, scope: Scope) -> Any:
    """The value at a dotted path of plain maps, or MISSING."""
    name, *keys = path.split(".")
    if name in _WORDS:
        return MISSING
    value = scope.get(name)
    for key in keys:
        if not isinstance(value, dict) or isinstance(value, Result) or key not in value:
            return MISSING
        value = value[key]
    plain = (str, int, float, list, dict, type(None))
    return value if isinstance(value, plain) and not isinstance(value, Result) else MISSING
