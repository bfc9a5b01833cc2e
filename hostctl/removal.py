"""Runs on the controller: destroy as a program for a host: one call instead of a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hostctl_host.contract.errors import HostctlError


@dataclass(frozen=True)
class Removal:
    """Removes what a project owns on a host. The host's ledger knows what that is.

    Attributes:
        volumes: volumes too, with what is in them.
    """

    project: str
    volumes: bool

    def facts(self, facts: dict[str, Any]) -> None:
        """What a host is like does not matter."""

    def first(self) -> dict[str, Any]:
        """The call; it is answered like a run."""
        args = {"project": self.project, "volumes": self.volumes}
        return {"type": "call", "verb": "destroy", "args": args}

    def answer(self, frame: dict[str, Any]) -> None:
        """Results are of no use."""

    def blob(self, digest: str) -> bytes:
        """Undoing needs only what the host has kept."""
        raise _unexpected(f"content {digest[:12]}")

    def verdict(self, frame: dict[str, Any]) -> dict[str, Any]:
        """There are no conditions to decide."""
        raise _unexpected(f"a verdict on {frame.get('id')}")

    def next(self) -> dict[str, Any]:
        """There are no further tasks."""
        raise _unexpected("tasks")

    def reply(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Nothing is pulled."""
        raise _unexpected(f"an answer about {frame.get('topic')}")


def _unexpected(what: str) -> HostctlError:
    return HostctlError(f"cannot destroy: the agent asks for {what}", ref="protocol")
