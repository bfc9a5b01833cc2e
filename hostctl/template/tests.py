"""Runs on the controller: Ansible's tests for Jinja (`is match`, `is failed`, `is version`, ...)."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from .scope import Result, UnknownResult


def _flags(ignorecase: bool, multiline: bool) -> int:
    return (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)


def match(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    return re.match(pattern, str(value), _flags(ignorecase, multiline)) is not None


def search(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    return re.search(pattern, str(value), _flags(ignorecase, multiline)) is not None


def regex(
    value: Any,
    pattern: str,
    ignorecase: bool = False,
    multiline: bool = False,
    match_type: str = "search",
) -> bool:
    return getattr(re, match_type)(pattern, str(value), _flags(ignorecase, multiline)) is not None


def _result(value: Any, key: str) -> bool:
    if not isinstance(value, Mapping):
        raise ValueError(f"the test needs a registered result, not {type(value).__name__}")
    if isinstance(value, Result) and value.unknown and key not in value:
        raise UnknownResult(value.unknown)
    return bool(value.get(key, False))


def failed(value: Any) -> bool:
    return _result(value, "failed")


def changed(value: Any) -> bool:
    if (
        isinstance(value, Mapping)
        and "changed" not in value
        and isinstance(value.get("results"), list)
    ):
        return any(changed(item) for item in value["results"])
    return _result(value, "changed")


def skipped(value: Any) -> bool:
    if isinstance(value, Result) and value.unknown:
        return False
    return _result(value, "skipped")


def subset(value: Any, other: Any) -> bool:
    return set(value) <= set(other)


def superset(value: Any, other: Any) -> bool:
    return set(value) >= set(other)


def version(
    value: Any, wanted: str, op: str = "==", strict: bool | None = None, version_type: Any = None
) -> bool:
    """Compares versions part by part: numbers as numbers, words as words (a word is before a number)."""
    names: dict[str, Callable[[Any, Any], bool]] = {
        "==": operator.eq, "=": operator.eq, "eq": operator.eq, "!=": operator.ne, "<>": operator.ne,
        "ne": operator.ne, "<": operator.lt, "lt": operator.lt, "<=": operator.le, "le": operator.le,
        ">": operator.gt, "gt": operator.gt, ">=": operator.ge, "ge": operator.ge,
    }  # fmt: skip
    if op not in names:
        raise ValueError(f"{op!r} is no comparison; one of {', '.join(names)}")
    return names[op](_version(value), _version(wanted))


def _version(value: Any) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|[a-z]+", str(value).lower())
    out = [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
    while out and out[-1] == (1, 0, ""):
        out.pop()
    return [*out, (1, -1, "")]


def truthy(value: Any, convert_bool: bool = False) -> bool:
    if convert_bool and isinstance(value, str):
        return value.strip().lower() in ("yes", "on", "1", "true", "y", "t")
    return bool(value)


TESTS: dict[str, Callable[..., bool]] = {
    "match": match,
    "search": search,
    "regex": regex,
    "failed": failed,
    "failure": failed,
    "succeeded": lambda value: not failed(value),
    "success": lambda value: not failed(value),
    "successful": lambda value: not failed(value),
    "changed": changed,
    "change": changed,
    "skipped": skipped,
    "skip": skipped,
    "subset": subset,
    "issubset": subset,
    "superset": superset,
    "issuperset": superset,
    "contains": lambda value, item: item in value,
    "version": version,
    "version_compare": version,
    "truthy": truthy,
    "falsy": lambda value, convert_bool=False: not truthy(value, convert_bool),
    "any": lambda value: any(value),
    "all": lambda value: all(value),
    "exists": lambda value: os.path.exists(value),
    "file": lambda value: os.path.isfile(value),
    "directory": lambda value: os.path.isdir(value),
    "link": lambda value: os.path.islink(value),
    "abs": lambda value: os.path.isabs(value),
}
