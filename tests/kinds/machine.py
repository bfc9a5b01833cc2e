"""Runs in tests: a Host with content in memory, and the path that the agent takes through a kind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from hostctl_host.agent.host import Host, Paths
from hostctl_host.contract.change import Action, Change


@dataclass
class Blobs:
    """Content by digest."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def add(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.kept[name] = data
        return name

    def get(self, name: str) -> bytes:
        return self.kept.get(name, b"")


def make_host(folder: str = "/nonexistent") -> tuple[Host, Blobs]:
    blobs = Blobs()
    paths = Paths(data=f"{folder}/data", run=f"{folder}/run")
    return Host(paths=paths, blob=blobs.get, keep=blobs.add, project="test"), blobs


def plan(kind: ModuleType, spec: Any, host: Host) -> list[Change]:
    changes: list[Change] = kind.diff(spec, kind.observe(spec, host))
    return changes


def converge(kind: ModuleType, spec: Any, host: Host) -> tuple[list[Change], Any]:
    """observe, diff, undo, apply, observe: asserts that nothing is left to do. Returns changes and undo."""
    observed = kind.observe(spec, host)
    changes = kind.diff(spec, observed)
    back = kind.undo(spec, observed, host) if hasattr(kind, "undo") else None
    if changes:
        kind.apply(spec, observed, changes, host)
    left = [change for change in plan(kind, spec, host) if change.action is not Action.RUN]
    assert left == []
    return changes, back
