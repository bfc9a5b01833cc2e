"""Runs on the controller: templates of plain references (`{{ name }}`, `{{ a.b | default('x') }}`) without Jinja.

Most values are like that, and importing Jinja and compiling with it is what a run without changes spends
most of its time on. Whatever is not plainly one of these forms, and about things that exist, is left to Jinja.
"""

from __future__ import annotations

import re
from typing import Any

from .scope import MISSING, Result, Scope

_PATH = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_LITERAL = r"'[^'\\{}]*'|\"[^\"\\{}]*\"|0|[1-9]\d*"
_FORM = re.compile(
    rf"\s*(?P<ref>{_PATH})\s*(?:\|\s*default\(\s*(?P<default>{_LITERAL})\s*\)\s*)?\Z"
    rf"|\s*(?P<test>[A-Za-z_]\w*)\s+is\s+(?P<negated>not\s+)?defined\s*\Z"
    rf"|\s*(?P<yes>{_LITERAL})\s+if\s+(?P<cond>[A-Za-z_]\w*)\s+is\s+(?P<inverse>not\s+)?defined"
    rf"\s+else\s+(?P<no>{_LITERAL})\s*\Z"
)
_TAG = re.compile(r"\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
_OTHER = re.compile(r"\{[{%#]|[}%#]\}|^\}")
# Jinja's keywords and the names that it knows by itself.
_OWN = frozenset(
    (
        *("true", "false", "none", "True", "False", "None", "not", "and", "or", "if", "else", "in"),
        *("is", "omit", "lookup", "query", "q", "range", "dict", "lipsum", "cycler", "joiner"),
        *("namespace", "self", "loop", "super", "caller", "varargs", "kwargs"),
    )
)


def render(text: str, scope: Scope) -> Any:
    """The rendered text (the value itself where it is one whole expression), or MISSING: ask Jinja.

    Raises:
        Deferred, UnknownResult, TemplateError: from the variables.
    """
    whole = _TAG.fullmatch(text)
    if whole:
        return expression(whole[1], scope)
    parts = _TAG.split(text)
    if any(_OTHER.search(part) or part.endswith("{") for part in parts[::2]):
        return MISSING
    for index in range(1, len(parts), 2):
        value = expression(parts[index], scope)
        if value is MISSING or not isinstance(value, (str, int, float, type(None))):
            return MISSING
        parts[index] = "" if value is None else str(value)
    # trim_blocks concerns blocks only, so the text between is as it stands
    return "".join(parts)


def expression(text: str, scope: Scope) -> Any:
    """The value of an expression of one of the plain forms, or MISSING."""
    match = _FORM.match(text)
    if not match:
        return MISSING
    if match["ref"]:
        value = lookup(match["ref"], scope)
        if value is MISSING and match["default"] and _absent(match["ref"], scope):
            return _literal(match["default"])
        return value
    name = match["test"] or match["cond"]
    if name in _OWN:
        return MISSING
    defined = (scope.get(name) is not MISSING) != bool(match["negated"] or match["inverse"])
    return defined if match["test"] else _literal(match["yes"] if defined else match["no"])


def lookup(path: str, scope: Scope) -> Any:
    """The value at a dotted path of plain maps, or MISSING."""
    name, *keys = path.split(".")
    if name in _OWN:
        return MISSING
    value = scope.get(name)
    for key in keys:
        if not isinstance(value, dict) or isinstance(value, Result) or key not in value:
            return MISSING
        value = value[key]
    plain = (str, int, float, list, dict, type(None))
    return value if isinstance(value, plain) and not isinstance(value, Result) else MISSING


def _absent(path: str, scope: Scope) -> bool:
    return path not in _OWN and "." not in path and scope.get(path) is MISSING


def _literal(text: str) -> Any:
    return text[1:-1] if text[0] in "'\"" else int(text)
