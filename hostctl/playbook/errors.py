"""Runs on the controller: errors that come all at once, each with its place, and the nearest right name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hostctl_host.contract.errors import HostctlError


class PlaybookErrors(HostctlError):
    """Everything that is wrong with what the user wrote, found before any host is touched."""

    def __init__(self, errors: Sequence[HostctlError]) -> None:
        self.errors = list(errors)
        first = self.errors[0]
        if len(self.errors) == 1:
            super().__init__(first.message, where=first.where, hint=first.hint, ref=first.ref)
        else:
            super().__init__(
                f"cannot use what is written: {len(self.errors)} errors", ref="playbook-errors"
            )

    def __str__(self) -> str:
        if len(self.errors) == 1:
            return str(self.errors[0])
        return "\n".join([self.message, *(render(error) for error in self.errors)])


class Collector:
    """Takes errors while checking goes on; `check` raises them together, in the order of the file."""

    def __init__(self) -> None:
        self.errors: list[HostctlError] = []

    def add(self, message: str, *, where: Any = "", hint: str = "", ref: str) -> None:
        self.take(HostctlError(message, where=str(where), hint=hint, ref=ref))

    def take(self, error: HostctlError) -> None:
        """Add an error (or each of several); one that is already there is not repeated."""
        for one in error.errors if isinstance(error, PlaybookErrors) else [error]:
            if not any((one.message, one.where) == (old.message, old.where) for old in self.errors):
                self.errors.append(one)

    def check(self) -> None:
        if self.errors:
            raise PlaybookErrors(self.errors)


def render(error: HostctlError) -> str:
    """`place: message`, and the hint on a line of its own."""
    return f"{error}\n  {error.hint}" if error.hint else str(error)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like it, or nothing."""
    import difflib

    found = difflib.get_close_matches(str(name), [str(one) for one in known], 1, 0.6)
    return found[0] if found else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name, or with the known names where they are few."""
    names = sorted({str(one) for one in known})
    found = nearest(name, names)
    if found:
        return f"did you mean {found}?"
    return f"known here: {', '.join(names)}" if 0 < len(names) <= 12 else ""
