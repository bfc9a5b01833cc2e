"""Runs in both worlds: an instruction that is split, but not understood: what `readers.py` reads."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import DockerfileError
from .flags import Flags
from .instructions import Heredoc, Lines


@dataclass(frozen=True)
class Parts:
    """An instruction that is split, but not understood.

    Attributes:
        rest: what follows the keyword and the flags.
    """

    name: str
    keyword: str
    words: tuple[str, ...]
    rest: str
    text: str
    lines: Lines
    comments: tuple[str, ...]
    heredocs: tuple[Heredoc, ...]
    escape: str

    @property
    def flags(self) -> Flags:
        return Flags(self.name, self.words)

    @property
    def common(self) -> tuple[Lines, str, str, tuple[str, ...], tuple[str, ...]]:
        """The fields that all instructions begin with."""
        return self.lines, self.text, self.keyword, self.comments, self.words

    def need(self, hint: str) -> str:
        """The rest, which must be there. Raises DockerfileError."""
        if not self.rest:
            raise DockerfileError(f"cannot use {self.name} with nothing after it", hint=hint)
        return self.rest
