"""Runs on the managed host: resource limits of the container's process."""

from __future__ import annotations

import resource

from .config import Config, RuntimeFailure

# The kernel's numbers: Python does not name all of them on every build.
NUMBERS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
_UNLIMITED = (1 << 64) - 1


class Rlimit:
    """One limit; -1 is unlimited, as Python has it."""

    def __init__(self, name: str, soft: int, hard: int) -> None:
        self.name = name
        self.soft = -1 if soft in (-1, _UNLIMITED) else soft
        self.hard = -1 if hard in (-1, _UNLIMITED) else hard


def prepare(config: Config) -> list[Rlimit]:
    """Parse `process.rlimits`."""
    limits: list[Rlimit] = []
    for entry in config["process"].get("rlimits") or ():
        name = entry.get("type")
        if name not in NUMBERS:
            raise RuntimeFailure(f"cannot set {name}: Linux has no such limit", ref="bad-rlimit")
        if any(limit.name == name for limit in limits):
            raise RuntimeFailure(f"cannot set {name}: it is there twice", ref="bad-rlimit")
        limit = Rlimit(name, int(entry["soft"]), int(entry["hard"]))
        if limit.hard != -1 and not 0 <= limit.soft <= limit.hard:
            raise RuntimeFailure(
                f"cannot set {name} to {limit.soft}:{limit.hard}: soft is above hard",
                ref="bad-rlimit",
            )
        limits.append(limit)
    return limits


def raise_ceilings(limits: list[Rlimit]) -> None:
    """Child, while it has the host's rights: hard limits that are too low rise to what is wanted."""
    for limit in limits:
        soft, hard = resource.getrlimit(NUMBERS[limit.name])
        if hard != -1 and (limit.hard == -1 or limit.hard > hard):
            _set(limit, soft, limit.hard)


def enter(limits: list[Rlimit]) -> None:
    """Child, last of what needs files and memory: from here on the limits hold."""
    for limit in limits:
        _set(limit, limit.soft, limit.hard)


def _set(limit: Rlimit, soft: int, hard: int) -> None:
    try:
        resource.setrlimit(NUMBERS[limit.name], (soft, hard))
    except (OSError, ValueError, OverflowError) as error:
        _, ceiling = resource.getrlimit(NUMBERS[limit.name])
        raise RuntimeFailure(
            f"cannot set {limit.name} to {limit.soft}:{limit.hard}: {error}",
            hint=f"the host allows at most {ceiling}: lower the container's ulimit",
            ref="bad-rlimit",
        ) from error
