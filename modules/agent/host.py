"""Runs on the managed host: what a kind may use of the machine it runs on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from .paths import DATA_DIR, RUN_DIR, Paths

if TYPE_CHECKING:
    from ..contract.change import Change
    from ..contract.registries import RegistrySettings
    from ..contract.trust import Trust
    from .channel import Channel
    from .exchange import Exchange

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
        fetch: has content blobs here, many in one round trip, for `blob` to read (apply mode only).
        keep: bytes -> digest; keeps content for `undo` in the ledger's blobs (apply mode only).
        progress: shows one line about the running resource.
        snapshot: what was read before plan mode dropped the right to (for example `nft`).
        gone: whether the controller has hung up (Ctrl-C there): what can be stopped should end.
        credentials: registry or repository -> {"username", "password"} or {"identitytoken"}, perhaps asked for
            when it is looked at (`store/logins.py`); in memory only.
        registries: how registries are spoken to, by host (`hostctl_registries`).
        trust: which images may be used (`hostctl_trust`); None where all may.
        ask: topic and fields -> the controller's answer (`agent/asking.py`).
        exchange: images that hosts of this run make for each other; None where there are none.
    """

    paths: Paths = field(default_factory=Paths)
    writable: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    project: str = ""
    observations: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, list[Change]] = field(default_factory=dict)
    blob: Callable[[str], bytes] = lambda _: b""
    fetch: Callable[[Iterable[str]], None] = lambda _: None
    keep: Callable[[bytes], str] = lambda _: ""
    progress: Callable[[str], None] = lambda _: None
    snapshot: dict[str, str] = field(default_factory=dict)
    gone: Callable[[], bool] = lambda: False
    credentials: dict[str, Mapping[str, str]] = field(default_factory=dict)
    registries: dict[str, RegistrySettings] = field(default_factory=dict)
    trust: Trust | None = None
    ask: Callable[..., dict[str, Any]] = lambda _, **__: {}
    exchange: Exchange | None = None

    def take_registries(self, frame: dict[str, Any], channel: Channel) -> None:
        """Remember the logins, settings and rules that a frame brings."""
        for name, login in (frame.get("credentials") or {}).items():
            if login.get("ask"):
                from ..store.logins import AskedLogin

                self.open_questions(channel)
                login = AskedLogin(name, self.ask)
            self.credentials[name] = login
        if frame.get("registries"):
            from ..contract.registries import parse_registries

            self.registries.update(parse_registries(frame["registries"]))
        if frame.get("trust"):
            from ..contract.trust import received

            self.open_questions(channel)
            self.trust = received(frame["trust"])

    def open_questions(self, channel: Channel) -> None:
        """From now on the controller can be asked."""
        from .asking import Asking

        if not isinstance(self.ask, Asking):
            self.ask = Asking(channel)
