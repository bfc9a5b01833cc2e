"""Runs `hostctl` in this process, in an empty folder, with what it printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hostctl.__main__ import main


@dataclass(frozen=True)
class Ended:
    """One run of the command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def hostctl(monkeypatch, tmp_path, capsys) -> Callable[..., Ended]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOSTCTL_INVENTORY", raising=False)

    def run(*args: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hostctl", *args])
        code = main()
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run
