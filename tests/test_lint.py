"""Runs on the developer's machine: format, lint and types, as tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def check(*argv: str, **environment: str) -> None:
    """A tool of this environment must have nothing to say."""
    tool = Path(sys.executable).parent / argv[0]
    done = subprocess.run(
        [str(tool), *argv[1:]],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(argv)}\n{done.stdout}{done.stderr}", pytrace=False)


def test_format() -> None:
    check("ruff", "format", "--check", ".")


def test_rules() -> None:
    check("ruff", "check", ".")


@pytest.mark.parametrize(
    ("package", "version"),
    [("hostctl", "3.11"), ("hostctl_host", "3.10"), ("hostctl_host", "3.13")],
)
def test_types(package: str, version: str) -> None:
    """3.10 is the oldest that mypy can check for; 3.9 itself runs the agent in test_worlds.py."""
    argv = ["mypy", "--strict", "-p", package, "--python-version", version]
    check(*argv, MYPYPATH=str(ROOT / "build" / "editable"))
