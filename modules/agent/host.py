"""Runs on the managed host: what a kind may use of the machine it runs on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from .paths import DATA_DIR, RUN_DIR, Paths

if TYPE_CHECKING:
    from ..contract.change import Change

__all__ = ["DATA_DIR", "RUN_DIR", "Host", "Paths"]


@dataclass
class Host:
    """Given to every `observe`, `apply` and `undo`.

    Attributes:
        paths: where hostctl keeps things here.
        writable: False in plan mode (for messages only: the kernel refuses writes, kinds never ask).
        facts: Ansible's names without the `ansible_` prefix.
        project: the project that this run is about.
        observations: resource id -> what its kind observed last; needs come before dependents.
        changes: resource id -> the changes found for it so far (in plan mode: what is going to be done).
        blob: digest -> bytes of a content blob of this run (or of the host's cache).
        keep: bytes -> digest; keeps content for `undo` in the ledger's blobs (apply mode only).
        progress: shows one line about the running resource.
        snapshot: what was read before plan mode dropped the right to (for example `nft`).
        gone: whether the controller has hung up (Ctrl-C there): what can be stopped should end.
        credentials: registry host -> {"username", "password"}; in memory only.
    """

    paths: Paths = field(default_factory=Paths)
    writable: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    project: str = ""
    observations: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, list[Change]] = field(default_factory=dict)
    blob: Callable[[str], bytes] = lambda _: b""
    keep: Callable[[bytes], str] = lambda _: ""
    progress: Callable[[str], None] = lambda _: None
    snapshot: dict[str, str] = field(default_factory=dict)
    gone: Callable[[], bool] = lambda: False
    credentials: dict[str, dict[str, str]] = field(default_factory=dict)
