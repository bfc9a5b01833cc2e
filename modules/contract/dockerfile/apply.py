"""Runs in both worlds: one instruction with its variables replaced, as far as the reference allows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Callable, TypeVar

from .errors import DockerfileError
from .expand import Expansion, expand
from .flags import Flags
from .instructions import (
    Add,
    Copy,
    Env,
    Expose,
    Heredoc,
    Instruction,
    Label,
    Pair,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from .mounts import parse_mount
from .ports import check_ports

_Copied = TypeVar("_Copied", Copy, Add)
Missing = Callable[[str], None]


def expand_instruction(
    one: Instruction,
    variables: Mapping[str, str],
    escape: str = "\\",
    missing: Missing | None = None,
) -> Instruction:
    """The same instruction, quotes and variables gone.

    Commands (RUN, CMD, ENTRYPOINT, HEALTHCHECK, SHELL), ONBUILD and MAINTAINER stay as they are: a shell, or
    nobody, replaces their variables. ARG is for `Scope`, because it says itself which variables there are.

    Args:
        missing: is told each name that has no value.
    Raises:
        DockerfileError: words that cannot be expanded, or are not what the instruction takes.
    """
    words = _Words(variables, escape, missing)
    if isinstance(one, (Env, Label)):
        return replace(one, pairs=tuple(words.pair(pair) for pair in one.pairs))
    if isinstance(one, Add):
        return replace(words.copied(one), checksum=words.one(one.checksum))
    if isinstance(one, Copy):
        return words.copied(one)
    if isinstance(one, Run):
        mounts = Flags("RUN", one.flags).list("mount")
        return replace(one, mounts=tuple(parse_mount(text, words.one) for text in mounts))
    if isinstance(one, Expose):
        ports = tuple(port for word in one.ports for port in words.expand(word).words)
        check_ports(ports)
        return replace(one, ports=ports)
    if isinstance(one, Workdir):
        return replace(one, path=words.one(one.path))
    if isinstance(one, User):
        return replace(one, user=words.one(one.user))
    if isinstance(one, Stopsignal):
        return replace(one, signal=check_signal(words.one(one.signal)))
    if isinstance(one, Volume):
        paths = words.all(one.paths)
        if not all(paths):
            raise DockerfileError("cannot use VOLUME with an empty path")
        return replace(one, paths=paths)
    return one


def check_signal(text: str) -> str:
    """The text, where it names a signal of Linux: `SIGTERM`, `term`, `15`, `RTMIN+3`.

    Raises:
        DockerfileError: it does not.
    """
    import signal

    name = text.upper().removeprefix("SIG")
    known = {one.name.removeprefix("SIG") for one in signal.Signals}
    real_time = (
        name.startswith(("RTMIN+", "RTMAX-")) and name[6:].isdecimal() and name[6:].isascii()
    )
    number = text.isascii() and text.isdecimal() and len(text) < 4 and 0 < int(text) <= 64
    if name in known or number or (real_time and len(name) < 9 and int(name[6:]) <= 30):
        return text
    raise DockerfileError(
        f"cannot use {text[:40]!r} as a signal",
        hint="write STOPSIGNAL SIGTERM, or a number from 1 to 64",
        ref="dockerfile-signal",
    )


class _Words:
    """Expands words with one set of variables."""

    def __init__(self, variables: Mapping[str, str], escape: str, missing: Missing | None) -> None:
        self.variables = variables
        self.escape = escape
        self.missing = missing

    def expand(self, word: str) -> Expansion:
        return self.noted(expand(word, self.variables, self.escape))

    def noted(self, found: Expansion) -> Expansion:
        if self.missing is not None:
            for name in sorted(found.missing):
                self.missing(name)
        return found

    def one(self, word: str) -> str:
        return self.expand(word).text

    def all(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.one(word) for word in words)

    def pair(self, pair: Pair) -> Pair:
        return replace(pair, name=self.one(pair.name), value=self.one(pair.value or ""))

    def copied(self, one: _Copied) -> _Copied:
        """What COPY and ADD have in common."""
        return replace(
            one,
            sources=self.all(one.sources),
            documents=tuple(self.document(document) for document in one.documents),
            destination=self.one(one.destination),
            chown=self.one(one.chown),
            chmod=self.one(one.chmod),
            exclude=self.all(one.exclude),
        )

    def document(self, document: Heredoc) -> Heredoc:
        if not document.expand:
            return document
        # The escape of a document is a shell's, whatever the directive says.
        found = expand(document.content, self.variables, document=True)
        return replace(document, content=self.noted(found).text)
