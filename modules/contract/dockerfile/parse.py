"""Runs in both worlds: a Dockerfile's text to its data types.

Source: the Dockerfile reference; where that is silent, BuildKit's own front end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .errors import DockerfileError
from .heredocs import Opening, find_heredocs
from .instructions import (
    INSTRUCTIONS,
    Arg,
    Dockerfile,
    From,
    Instruction,
    Lines,
    Onbuild,
    Stage,
)
from .lines import Line, Reader, decode
from .mistakes import explain_unknown
from .names import nearest
from .parts import Parts
from .readers import READERS, read_onbuild
from .words import parse_json, split_flags, split_once

_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


def parse(text: str | bytes, file: str = "Dockerfile") -> Dockerfile:
    """The whole file.

    Args:
        text: bytes are UTF-8; what is not stays as it is (surrogates, `os.fsencode` gives the bytes back).
        file: its name, for messages.
    Raises:
        DockerfileError: the first thing that is wrong, with its line.
    """
    source: tuple[str, ...] = ()
    try:
        decoded = decode(text)
        lines = decoded.split("\n")
        source = tuple(line.rstrip("\r") for line in lines)
        reader = Reader([f"{line}\n" for line in lines[:-1]] + lines[-1:], _openings)
        arguments, stages = _stages(reader)
        return Dockerfile(
            arguments, stages, reader.directives, tuple(reader.warnings), source, file
        )
    except DockerfileError as error:
        raise located(error, error.lines, source, file) from None


def parse_trigger(text: str, escape: str = "\\") -> Instruction:
    """One instruction of a base image's `OnBuild`. Its lines are of the trigger itself.

    Raises:
        DockerfileError: it is none, or one that cannot be a trigger.
    """
    lines = decode(text).split("\n")
    source = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    reader = Reader(source, _openings)
    found = [(line, _instruction(line, escape)) for line in reader.read()]
    if len(found) != 1 or isinstance(found[0][1], (From, Onbuild)):
        raise DockerfileError(
            f"cannot use {text[:60]!r} as a trigger of ONBUILD: it is one instruction"
        )
    return found[0][1]


def located(
    error: DockerfileError, lines: Lines | None, source: tuple[str, ...], file: str
) -> DockerfileError:
    """The error with its place and the lines that it is about (at most five)."""
    if error.where:
        return error
    shown = source[lines.first - 1 : min(lines.last, lines.first + 4)] if lines else ()
    numbers = range(lines.first, lines.first + len(shown)) if lines else range(0)
    return DockerfileError(
        error.message,
        where=f"{file}:{lines.first}" if lines else file,
        hint=error.hint,
        ref=error.ref,
        lines=lines,
        source=tuple(f"{number:4} | {text}" for number, text in zip(numbers, shown)),
    )


@dataclass
class _Open:
    """A stage that is still being read."""

    start: From
    instructions: list[Instruction]


def _stages(reader: Reader) -> tuple[tuple[Arg, ...], tuple[Stage, ...]]:
    arguments: list[Arg] = []
    stages: list[_Open] = []
    for line in reader.read():
        try:
            instruction = _instruction(line, reader.directives.escape)
            if isinstance(instruction, From):
                stages.append(_Open(instruction, []))
            elif stages:
                stages[-1].instructions.append(instruction)
            elif isinstance(instruction, Arg):
                arguments.append(instruction)
            else:
                raise DockerfileError(
                    f"cannot use {instruction.NAME} before the first FROM",
                    hint="only ARG may stand there; write FROM IMAGE first",
                )
        except DockerfileError as error:
            error.lines = error.lines or line.lines
            raise
    if not stages:
        raise DockerfileError("cannot build a file without FROM", hint="write FROM IMAGE")
    return tuple(arguments), tuple(
        Stage(index, one.start, tuple(one.instructions)) for index, one in enumerate(stages)
    )


def _instruction(line: Line, escape: str) -> Instruction:
    keyword, after = split_once(line.text)
    name = keyword.upper()
    if name not in INSTRUCTIONS:
        found = nearest(keyword, INSTRUCTIONS)
        raise DockerfileError(
            f"cannot use {keyword[:60]!r}: there is no such instruction",
            hint=explain_unknown(line.text) or (f"did you mean {found}?" if found else ""),
            ref="dockerfile-instruction",
        )
    words, rest = split_flags(after)
    parts = Parts(
        name,
        keyword,
        tuple(words),
        rest,
        line.text,
        line.lines,
        line.comments,
        line.heredocs,
        escape,
    )
    if name != "ONBUILD":
        return READERS[name](parts)
    return read_onbuild(parts, lambda text: _instruction(replace(line, text=text), escape))


def _openings(text: str) -> list[Opening]:
    """The heredocs of an instruction: of RUN, COPY and ADD, and not in JSON."""
    keyword, after = split_once(text)
    if keyword.upper() == "ONBUILD" and after:
        keyword, after = split_once(split_flags(after)[1] or "-")
    if keyword.upper() not in _WITH_HEREDOCS or "<<" not in after:
        return []
    try:
        if parse_json(split_flags(after)[1]) is not None:
            return []
    except DockerfileError:
        return []
    return find_heredocs(text)
