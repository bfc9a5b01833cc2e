"""Runs on the managed host: the one way that accounts are changed: the distribution's shadow tools."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract.errors import CannotApply
from .run import run


def change_account(argv: Sequence[str], stdin: str | None = None) -> None:
    """Run useradd and its family; they lock and replace the files of /etc themselves.

    Secrets go through `stdin`, never through argv.

    Raises:
        CannotApply: with the tool's own words.
    """
    done = run(argv, input=stdin, timeout=60)
    if done.code == 0:
        return
    words = " / ".join((done.stderr or done.stdout).strip().splitlines()[-2:])
    hint = "set `become: true`" if "ermission denied" in words else ""
    raise CannotApply(f"cannot change {argv[-1]}: {argv[0]}: {words}", hint=hint)
