"""Runs on the managed host: a login that the controller has to ask a credential helper for: when it is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Callable


class AskedLogin(Mapping[str, str]):
    """Empty where there is none. The controller is asked at the first look, once.

    Args:
        name: the repository.
        ask: `Host.ask`.
    """

    def __init__(self, name: str, ask: Callable[..., dict[str, Any]]) -> None:
        self._name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._known: dict[str, str] | None = None

    def __getitem__(self, key: str) -> str:
        return self._login()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._login())

    def __len__(self) -> int:
        return len(self._login())

    def __repr__(self) -> str:
        return f"AskedLogin({self._name!r})"

    def _login(self) -> dict[str, str]:
        with self._lock:
            if self._known is None:
                self._known = dict(self._ask("login", name=self._name).get("login") or {})
            return self._known
