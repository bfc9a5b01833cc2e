"""Runs on the managed host, in the agent: which fields of a container differ, and what each costs.

A field that the kernel or the monitor can change stays in its container; any other replaces it.
"""

from __future__ import annotations

from typing import Any

from ..contract.change import Action, Change, Reason

# Limits whose absence the kernel can be told; one of the others has to go with its container.
_REMOVABLE = frozenset(
    ("cpu_period", "cpu_quota", "cpu_shares", "cpus", "mem_limit", "memswap_limit", "pids_limit")
)
IN_PLACE = frozenset(
    ("healthcheck", "labels", "restart", "restart_on", "stop_grace_period", "stop_signal")
)
NOT_COMPARED = frozenset(("name", "depends_on", "deploy", "state", "image"))
MAPS = frozenset(
    (
        "annotations",
        "blkio_config",
        "environment",
        "healthcheck",
        "labels",
        "logging",
        "sysctls",
        "ulimits",
    )
)


def comparable(encoded: dict[str, Any]) -> dict[str, Any]:
    """Field -> value, with maps spread out (`environment.TZ`), so that a change names its key."""
    out: dict[str, Any] = {}
    for name, value in encoded.items():
        if name in NOT_COMPARED:
            continue
        if name in MAPS:
            out.update({f"{name}.{key}": item for key, item in value.items()})
        else:
            out[name] = value
    return out


def field_changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    changes = []
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            reason = Reason.DIFFERS if name in after else Reason.UNSET
            action = Action.UPDATE if _in_place(name, set=name in after) else Action.REPLACE
            changes.append(Change(action, name, before.get(name), after.get(name), reason))
    return changes


def _in_place(name: str, *, set: bool) -> bool:
    """Whether the field can change without a new container."""
    if name.partition(".")[0] in IN_PLACE:
        return True
    kept = ("cpuset", "mem_reservation", "blkio_config.weight")
    return name in _REMOVABLE or (set and name in kept)
