"""Runs on the test machine: virtual machines for tests, and to look at: `python -m tests.vagrant VERB`.

test [ARGUMENTS OF PYTEST]   run the scenarios; on machines of its own unless some are up
up                           boot machines that stay
ssh NAME [COMMAND]           log in to one
enter [COMMAND]              a shell where virsh, vagrant and the machines' network are
down                         nothing stays
all [ARGUMENTS OF PYTEST]    the scenarios marked core on each release in turn, the nightly ones on one
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.lab.shell import LabError

from . import box, machines
from .space import Space

USUAL = "bookworm"
HERE = Path(__file__).parent
SPACE = Space(machines.NAME)


def main(words: list[str]) -> int:
    """Do what a verb says; the exit code is that of the program that it ran."""
    verb, rest = (words or ["help"])[0], words[1:]
    if verb == "test":
        return test(rest)
    if verb == "all":
        return every(rest)
    if verb == "up":
        with SPACE.claimed():
            machines.up(SPACE, kept=True)
        return 0
    if verb == "down":
        SPACE.end()
        return 0
    if verb == "ssh" and rest:
        config = SPACE.folder / "ssh_config"
        return inside("ssh", "-F", str(config), *rest)
    if verb == "enter":
        return inside(*(rest or [os.environ.get("SHELL", "sh")]))
    print(__doc__, file=sys.stderr)
    return 0 if verb == "help" else 1


def inside(*argv: str, **more: str) -> int:
    """Run a program in the space, with this terminal."""
    environment = {**os.environ, **machines.vagrant_environment(SPACE), **more}
    return subprocess.run([*SPACE.entering(), *argv], env=environment, check=False).returncode


def test(rest: list[str]) -> int:
    """Run pytest in the space."""
    with SPACE.claimed():
        found = bool(SPACE.pid)
        try:
            if not found:
                machines.up(SPACE, kept=False)
            named = any(word.startswith("tests/") for word in rest)
            chosen = [] if named else [str(HERE)]
            if not named and "-m" not in rest:
                chosen += ["-m", "not nightly"]
            return subprocess.run(
                [*SPACE.entering(), sys.executable, "-m", "pytest", *chosen, *rest],
                env={**os.environ, "HOSTCTL_VM_NAME": SPACE.name},
                check=False,
            ).returncode
        finally:
            if not found:
                SPACE.end()


def every(rest: list[str]) -> int:
    """Run the core scenarios on each release, in a process each; on the usual one the nightly ones, too."""
    worst = 0
    for suite in box.SUITES:
        print(f"== {suite}", file=sys.stderr, flush=True)
        chosen = "core or nightly" if suite == USUAL else "core"
        environment = {**os.environ, "HOSTCTL_VM_SUITE": suite, "HOSTCTL_VM_MACHINES": "vm1"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.vagrant", "test", "-m", chosen, *rest],
            env=environment,
            check=False,
        )
        worst = max(worst, done.returncode)
    return worst


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # by way of what cleans up
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
