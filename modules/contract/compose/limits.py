"""Runs in both worlds: what a container may use: CPUs, memory, files."""

from __future__ import annotations

import re
from typing import Any

from ..fields import FieldError, Short, parse_duration, parse_size

ULIMIT_NAMES = frozenset(
    (
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
)
"""Limits of setrlimit(2), by the names that Compose and ulimit have for them."""


def parse_ulimits(value: Any) -> Any:
    """One number for soft and hard, or a map of both."""
    if not isinstance(value, dict):
        return value
    out = {}
    for name, item in value.items():
        if name not in ULIMIT_NAMES:
            raise FieldError(
                f"{name!r} is no resource limit; one of {', '.join(sorted(ULIMIT_NAMES))}", name
            )
        single = isinstance(item, (int, str)) and not isinstance(item, bool)
        out[name] = {"soft": item, "hard": item} if single else item
    return out


def parse_cpus(value: Any) -> Any:
    """A number of CPUs, as a number or in quotes."""
    if isinstance(value, str):
        if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", value.strip()):
            raise FieldError(f'{value!r} is no number of CPUs; write it like "0.5"')
        return float(value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def parse_cpuset(value: Any) -> Any:
    """Numbers and ranges of CPUs: `0-3`, `0,2`."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return value
    text = value.replace(" ", "")
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise FieldError(f"{value!r} are no CPUs; write numbers and ranges, such as 0-3 or 0,2")
    return text


def parse_microseconds(value: Any) -> Any:
    """Microseconds, as a number or as a duration (`50ms`)."""
    if isinstance(value, str):
        if re.fullmatch(r"-?\d+", value.strip()):
            return int(value)
        return round(float(parse_duration(value)) * 1e6)
    return value


def parse_swap(value: Any) -> Any:
    """Bytes of memory and swap together; -1 is as much swap as the host has."""
    return -1 if value == "-1" else parse_size(value)


CPUS = Short(parse_cpus)
CPUSET = Short(parse_cpuset)
MICROSECONDS = Short(parse_microseconds)
SWAP = Short(parse_swap)
ULIMITS = Short(parse_ulimits)
