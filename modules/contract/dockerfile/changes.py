"""Runs in both worlds: instructions that change an image's config alone (`import --change`), as Docker takes them."""

from __future__ import annotations

from dataclasses import replace

from .errors import DockerfileError
from .instructions import Instruction
from .parse import parse

ALLOWED = (
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
)


def parse_change(text: str) -> tuple[Instruction, ...]:
    """The instructions of one change; mostly one. Their variables are not replaced yet.

    Raises:
        DockerfileError: it is none, or one that does more than to change the config.
    """
    where = f"--change {text.strip().splitlines()[0][:60] if text.strip() else repr(text)}"
    try:
        stages = parse(f"FROM scratch\n{text}\n").stages
    except DockerfileError as error:
        raise DockerfileError(error.message, where=where, hint=error.hint, ref=error.ref) from None
    found = stages[0].instructions
    others = [one.NAME for one in found if one.NAME not in ALLOWED]
    if others or len(stages) > 1 or not found:
        name = (others or ["FROM" if len(stages) > 1 else "nothing"])[0]
        raise DockerfileError(
            f"cannot change an image by {name}: it is no instruction of the config",
            where=where,
            hint=f"use {', '.join(ALLOWED)}",
            ref="change-instruction",
        )
    return tuple(replace(one, lines=replace(one.lines, first=1, last=1)) for one in found)
