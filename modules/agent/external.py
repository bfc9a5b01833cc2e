"""Runs on the managed host, in the agent: what is not there, and is not for this run to make."""

from __future__ import annotations

from ..contract.errors import CannotObserve


def check_can_be_made(kind: str, name: str, *, external: bool, driver: str, ours: str) -> None:
    """What is not there has to be ours to make, by the one driver that there is. Raises CannotObserve."""
    if external:
        raise CannotObserve(
            f"cannot use {kind} {name}: it is external and does not exist on this host",
            hint="apply the project that owns it first, or take `external` away",
            ref="external-missing",
        )
    if driver != ours:
        raise CannotObserve(
            f"cannot create {kind} {name}: driver {driver} is not supported yet",
            hint=f"use `driver: {ours}`, or leave it out",
            ref="not-supported",
        )
