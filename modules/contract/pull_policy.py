"""Runs in both worlds: Compose's `pull_policy`: when a registry is asked for an image that is there already."""

from __future__ import annotations

import re

WORDS = ("missing", "if_not_present", "always", "never", "build", "daily", "weekly")
_DAY = 86400
_UNITS = {"w": 7 * _DAY, "d": _DAY, "h": 3600, "m": 60, "s": 1}
_EVERY = re.compile(r"every_((?:\d+[wdhms])+)")


def check_policy(policy: str) -> str:
    """The policy as it is. Raises ValueError, with what there is."""
    if policy and policy not in WORDS and not _EVERY.fullmatch(policy):
        raise ValueError(
            f"there is no pull_policy {policy!r}: use always, missing, if_not_present, never, build, daily,"
            " weekly or every_ and a duration, such as every_12h"
        )
    return policy


def period(policy: str) -> float | None:
    """Seconds after which the registry is asked again; 0: always; None: not while the image is there."""
    if policy == "always":
        return 0
    if policy in ("daily", "weekly"):
        return _DAY if policy == "daily" else 7 * _DAY
    match = _EVERY.fullmatch(policy)
    if not match:
        return None
    return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([wdhms])", match[1]))
