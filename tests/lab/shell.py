"""Runs on the test machine: the lab's one way to start programs, and how it locks its folders."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path


class LabError(Exception):
    """Something that the lab needs is missing or did not work; the message says what to do."""


def run(argv: Sequence[str | Path], stdin: str = "", timeout: float = 60) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        words = " ".join(str(word) for word in argv)
        raise LabError(f"{words}: exit {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel drops it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
