"""Runs nowhere: the type of `steps` as the monitor sees it.

The monitor's own modules are imported before all others, so that their objects lie close together in
memory; it gets `steps`, which needs everything, handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from .apart import Answer


class Acts(Protocol):
    """See `steps` for what each does."""

    def begin(self, client: Callable[[int], bool], waiting: int) -> Answer: ...

    def ended(self, line: bytes, status: int) -> Answer: ...

    def again(self, line: bytes) -> Answer: ...

    def restore(self, line: bytes, pid: int) -> Answer: ...

    def rotate(self, line: bytes, size: int = 0) -> Answer: ...

    def grown(self, line: bytes) -> None: ...

    def attach(self, line: bytes, number: int) -> Answer: ...

    def probe(self, line: bytes) -> None: ...

    def accept(self) -> int | None: ...

    def serve(self, line: bytes, peer: int) -> None: ...
