"""Runs in both worlds: the one error of the Dockerfile front end, with the line that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import HostctlError

if TYPE_CHECKING:
    from .instructions import Lines


class DockerfileError(HostctlError):
    """What is wrong with a Dockerfile. `lines` says where; `source` are the lines themselves.

    What only reads a word knows neither; whoever knows the file adds them.
    """

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        hint: str = "",
        ref: str = "dockerfile",
        lines: Lines | None = None,
        source: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, where=where, hint=hint, ref=ref)
        self.lines = lines
        self.source = source

    def __str__(self) -> str:
        shown = "".join(f"\n  {text}" for text in self.source)
        return super().__str__() + shown
