"""Runs on the controller: containers that share a namespace with another one: which that is, and whether they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .services import Lowering, Service


def find_peers(lowering: Lowering) -> dict[str, str] | None:
    """`pid` and `ipc` with the full name of the container whose namespace it is; empty: no container's.

    Of a service with replicas it is its first container, as in Compose.
    """
    out = {}
    for kind in ("pid", "ipc"):
        mode, _, key = getattr(lowering.service.spec, kind).partition(":")
        out[kind] = f"container:{key}" if mode == "container" else ""
        if mode != "service":
            if mode == "container" and not _same_users(lowering, kind, _named(lowering, key)):
                return None
            continue
        other = lowering.by_key.get(key)
        if other is None or key == lowering.service.key:
            if other is not None:
                lowering.errors.add(
                    f"cannot share {kind} with {key}: that is the container itself",
                    where=lowering.service.at(kind),
                    ref="dependency-cycle",
                )
            elif key not in lowering.broken:
                lowering.unknown("container", key, lowering.by_key, lowering.service.at(kind))
            return None
        if not _same_users(lowering, kind, other):
            return None
        out[kind] = f"container:{other.names(lowering.project)[0]}"
    return out


def _named(lowering: Lowering, name: str) -> Service | None:
    """The service that a container's full name belongs to, where it is one of this playbook's."""
    services = lowering.by_key.values()
    return next((one for one in services if name in one.names(lowering.project)), None)


def _same_users(lowering: Lowering, kind: str, other: Service | None) -> bool:
    """Namespaces belong to a user namespace: only who is in it can use them."""
    mine = lowering.service.spec.userns_mode
    if other is None or other.spec.userns_mode == mine:
        return True
    lowering.errors.add(
        f"cannot share {kind} with {other.key}: its userns_mode is {other.spec.userns_mode or 'host'},"
        f" and here it is {mine or 'host'}",
        where=lowering.service.at(kind),
        hint=f"a {kind} namespace belongs to its users: write the same userns_mode in both",
        ref="other-users",
    )
    return False


def named_in_full(lowering: Lowering) -> bool:
    """Whether a container that is a task names its peers in full: it has no services beside it."""
    for kind in ("pid", "ipc"):
        mode = getattr(lowering.service.spec, kind)
        if mode.startswith("service:"):
            lowering.errors.add(
                f"cannot use {kind}: {mode} in a task: services are entries of containers",
                where=lowering.service.at(kind),
                hint=f"name the container in full: {kind}: container:NAME",
                ref="no-service",
            )
            return False
    return True
