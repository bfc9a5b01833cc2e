"""Runs in both worlds: commands, environments, labels and other texts as Compose writes them."""

from __future__ import annotations

import os
from typing import Any

from ..fields import FieldError, Short


def text(value: Any) -> Any:
    """A scalar as the text that Compose makes of it; maps and lists pass through to be refused."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def pairs(value: Any, sign: str, hint: str) -> list[tuple[str, Any]] | None:
    """(name, value or None) pairs of a map or a list of strings; None for anything else."""
    if isinstance(value, dict):
        return [(str(name), item) for name, item in value.items()]
    if not isinstance(value, (list, tuple)):
        return None
    out = []
    for index, item in enumerate(value):
        if isinstance(item, (dict, list)) or item is None:
            raise FieldError(f"{item!r} is no pair; {hint}", index)
        name, found, rest = str(item).partition(sign)
        out.append((name, rest if found else None))
    return out


def parse_command(value: Any) -> Any:
    """Arguments from a list, or from a string split as a shell would (no shell runs it); empty clears."""
    if isinstance(value, str):
        import shlex

        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise FieldError(f"{value!r} cannot be split: {str(error).lower()}") from error
    return tuple(text(item) for item in value) if isinstance(value, (list, tuple)) else value


def parse_environment(value: Any) -> Any:
    """Names to values, from a map or from `NAME=VALUE`; without a value it is the caller's, or left out."""
    found = pairs(value, "=", "write NAME=VALUE")
    if found is None:
        return value
    out: dict[str, Any] = {}
    for name, item in found:
        if not name or "=" in name or "\0" in name:
            raise FieldError(f"{name!r} is no name of an environment variable")
        if item is None:
            item = os.environ.get(name)
        if item is not None:
            out[name] = text(item)
    return out


def parse_labels(value: Any) -> Any:
    """Names to values, from a map or from `NAME=VALUE`; without a value it is empty."""
    found = pairs(value, "=", "write NAME=VALUE")
    if found is None:
        return value
    return {name: "" if item is None else text(item) for name, item in found}


def parse_words(value: Any) -> Any:
    """A list of strings, from a list or from one string."""
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(text(item) for item in value) if isinstance(value, (list, tuple)) else value


COMMAND = Short(parse_command)
ENVIRONMENT = Short(parse_environment)
LABELS = Short(parse_labels)
WORDS = Short(parse_words)
