"""Runs on the developer's machine: times two commands in turn and says the ratio of their medians."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNS = 5
UNWANTED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
"""What a developer's shell may set and an installed program does not meet: it has its bytecode."""


@dataclass(frozen=True)
class Row:
    """One line of the result: ours against theirs, in `unit`, and the ratio that must not be exceeded."""

    work: str
    reference: str
    ours: float
    theirs: float
    must: float
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """Ours divided by theirs."""
        return self.ours / self.theirs if self.theirs else float("inf")

    def __str__(self) -> str:
        verdict = "ok" if self.ratio <= self.must else "MISSED"
        return (
            f"{self.work:<44} {self.ours:8.3f} {self.unit:<2} {self.reference:<34} {self.theirs:8.3f} "
            f"{self.unit:<2} ratio {self.ratio:6.2f} (at most {self.must:g}) {verdict}"
        )


class CommandFailed(Exception):
    """A measured command did not do its work, so its time says nothing."""


def run(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)
) -> str:
    """Run to the end and return what it printed; any other exit code is an error."""
    whole = {key: value for key, value in os.environ.items() if key not in UNWANTED}
    done = subprocess.run(
        list(argv), env={**whole, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode not in ok:
        raise CommandFailed(
            f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return done.stdout


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(*works: Callable[[], object], runs: int = RUNS, warm: int = 1) -> list[float]:
    """Median wall time of each, run in turn (A B C A B C ...), after `warm` rounds that do not count."""
    for _ in range(warm):
        for work in works:
            work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(runs):
        for kept, work in zip(times, works, strict=True):
            kept.append(seconds(work))
    return [statistics.median(kept) for kept in times]


def pss(pid: int) -> float:
    """Proportional set size of a process in MB (proc(5), smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def processes(word: str) -> list[int]:
    """Pids of those whose program has the word in its name."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and word in (entry / "cmdline").read_text().split("\0")[0]:
                found.append(int(entry.name))
    return found
