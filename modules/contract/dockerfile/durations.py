"""Runs in both worlds: Go's durations, which HEALTHCHECK takes."""

from __future__ import annotations

import re

_PART = r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"\+?(?:{_PART})+")
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
_LONGEST = 2**63 / 1e9
"""Go counts nanoseconds in 64 bits."""


def parse_duration(text: str) -> float:
    """Seconds from `1m30s`, `1.5h`, `500ms` or `0`.

    Raises:
        ValueError: it is none, is below zero, or more than 292 years.
    """
    if text == "0":
        return 0.0
    if len(text) > 100 or not _DURATION.fullmatch(text):
        raise ValueError("it is no duration, such as 30s, 1m30s or 500ms")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))
    if seconds >= _LONGEST:
        raise ValueError("it is more than 292 years")
    return seconds
