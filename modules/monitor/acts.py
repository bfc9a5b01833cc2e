"""Runs nowhere: the type of `steps` as the monitor sees it.

The monitor's own modules are imported before all others, so that their objects lie close together in
memory; it gets `steps`, which needs everything, handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .apart import Answer
    from .steps import Place


class Acts(Protocol):
    """See `steps` for what each does."""

    def begin(self, place: Place, verb: bytes, peer: int) -> Answer: ...

    def ended(self, place: Place, status: int) -> Answer: ...

    def again(self, place: Place) -> Answer: ...

    def restore(self, place: Place, pid: int, sockets: list[int]) -> Answer: ...

    def accept(self, listener: int) -> int: ...

    def serve(self, place: Place, peer: int, waker: int, lock: int) -> None: ...
