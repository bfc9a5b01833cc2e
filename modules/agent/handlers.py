"""Runs on the managed host: which handlers were notified, and in which order they are due."""

from __future__ import annotations

from collections.abc import Iterable

from ..contract.document import Resource

HANDLERS = "handlers"
_PREFIX = "handler."


class Handlers:
    """Handlers in definition order. A name that was notified and has no handler yet stays notified."""

    def __init__(self, owed: Iterable[str]) -> None:
        self._handlers: dict[str, list[Resource]] = {}
        self._notified: set[str] = set(owed)
        self._doubtful: set[str] = set()

    def define(self, handlers: Iterable[Resource]) -> None:
        """Add handlers; those of one name (a loop) run together."""
        for handler in handlers:
            self._handlers.setdefault(name_of(handler), []).append(handler)

    def notify(self, names: Iterable[str], certain: bool = True) -> None:
        for name in names:
            if not certain and name not in self._notified:
                self._doubtful.add(name)
            elif certain:
                self._doubtful.discard(name)
            self._notified.add(name)

    def next(self) -> tuple[list[Resource], bool] | None:
        """The first notified name's handlers and whether they are certain to run; they count as done now."""
        for name, handlers in self._handlers.items():
            if name in self._notified:
                self._notified.discard(name)
                certain = name not in self._doubtful
                self._doubtful.discard(name)
                return handlers, certain
        return None

    def owed(self, all_defined: bool) -> list[str]:
        """Names that an end now leaves for the next run; of a whole document only those that it has."""
        return sorted(name for name in self._notified if not all_defined or name in self._handlers)


def name_of(handler: Resource) -> str:
    """The name that `notify` uses."""
    return handler.id[len(_PREFIX) :] if handler.id.startswith(_PREFIX) else handler.id
