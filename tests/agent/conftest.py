"""Runs on this machine, in tests: a host of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from .wire import World

# A kind with everything a test needs: a file whose content is a line, and knobs to misbehave.
NOTE = '''
"""A kind for tests: a note is a file with one line."""
from __future__ import annotations
import os, time
from dataclasses import dataclass
from .contract.change import Action, Change, Reason
from .contract.errors import CannotApply, CannotObserve

@dataclass(frozen=True)
class Spec:
    path: str
    text: str = ""
    state: str = "present"
    trouble: str = ""
    slow: float = 0.0

def observe(spec, host):
    if spec.trouble == "observe" or (spec.trouble == "needs-dir" and not os.path.isdir(os.path.dirname(spec.path))):
        raise CannotObserve("cannot look at " + spec.path, hint="look yourself")
    if spec.trouble == "crash":
        return 1 / 0
    try:
        with open(spec.path) as stream:
            return stream.read()
    except FileNotFoundError:
        return None

def diff(spec, observed):
    if spec.state == "absent":
        return [] if observed is None else [Change(Action.DELETE, reason=Reason.UNWANTED)]
    if observed is None:
        return [Change(Action.CREATE, "text", after=spec.text, reason=Reason.ABSENT)]
    if observed != spec.text:
        return [Change(Action.UPDATE, "text", observed, spec.text)]
    return []

def apply(spec, observed, changes, host):
    with open(os.path.join(os.path.dirname(host.paths.data), "acts"), "a") as stream:
        stream.write(f"{spec.path} {spec.state}\\n")
    host.progress("writing")
    time.sleep(spec.slow)
    if spec.trouble == "apply":
        raise CannotApply("cannot write " + spec.path, hint="use another pen")
    if spec.trouble == "half":
        with open(spec.path, "w") as stream:
            stream.write("half")
        return None
    if spec.state == "absent":
        os.unlink(spec.path)
    else:
        with open(spec.path + ".new", "w") as stream:
            stream.write(spec.text)
        os.rename(spec.path + ".new", spec.path)
    return {"path": spec.path}

def undo(spec, observed, host):
    if observed is None:
        return Spec(spec.path, state="absent")
    return Spec(spec.path, observed)
'''


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.kind("note", NOTE)
    return made


@pytest.fixture
def acts(tmp_path: Path):
    """What the kind `note` did so far, as lines."""

    def read() -> list[str]:
        path = tmp_path / "acts"
        return path.read_text().splitlines() if path.exists() else []

    return read
