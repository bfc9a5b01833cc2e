"""Runs on the test machine: the `hostctl` command against a lab, as a user would type it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Lab

PROGRAM = Path(sys.executable).with_name("hostctl")


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, both outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its standard output, which must be JSON and nothing else."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def changed(self) -> dict[str, list[str]]:
        """Host -> `ACTION RESOURCE` of every changed resource, in the report's order."""
        return {
            host: list(dict.fromkeys(f"{c['action']} {c['resource']}" for c in told["changes"]))
            for host, told in self.json["hosts"].items()
        }


class Hostctl:
    """The command with a lab's inventory and a lab's home folder."""

    def __init__(self, lab: Lab, inventory: Path | None = None) -> None:
        self.lab = lab
        self.inventory = inventory or lab.inventory

    def argv(self, *words: str) -> list[str]:
        return [str(PROGRAM), words[0], "--inventory", str(self.inventory), *words[1:]]

    def __call__(self, *words: str, timeout: float = 120, stdin: str = "") -> Done:
        done = subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.lab.environment(),
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.lab.environment(),
        )
