"""Runs in both worlds: the one exception of hostctl, raised in libraries and printed once, in main."""

from __future__ import annotations


class HostctlError(Exception):
    """What could not be done, where, why, and what to type next.

    Args:
        message: starts with "cannot"; one line of cause.
        where: `file:line:column (key path)`, or `host, resource`.
        hint: what to do or type next.
        ref: a stable kebab-case name, used by tests and JSON.
    """

    def __init__(
        self, message: str, *, where: str = "", hint: str = "", ref: str = "error"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.ref = ref

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message}"


class CannotObserve(HostctlError):
    """Raised by `observe`: the third state beside present and absent; it changes nothing and is a failure."""


class Impossible(CannotObserve):
    """Raised by `observe`: whatever else the run does, this cannot become so; plan says it as a failure."""


class CannotApply(HostctlError):
    """Raised by `apply`: an act failed; what had been done before it stays recorded in the journal."""
