"""Runs `hostctl` in this process, in an empty folder, with what it printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hostctl.__main__ import run


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

    def call(*args: str) -> Ended:
        code = run([*args])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call
