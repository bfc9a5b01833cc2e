"""Runs on the test machine: which labs are up, whose they are, and the removal of dead ones.

A lab is a numbered slot. Everything that it makes is named after the slot (cgroups, bridge, veth
pairs, folders) and all its processes are in its cgroups, so that anyone can remove it with no
record of what it got done before its owner was killed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from . import cgroups, network
from .paths import PREFIX, RUN, WORK
from .roots import remove_tree
from .shell import LabError, locked

SLOTS = range(200)


@dataclass(frozen=True)
class Claim:
    """Who has a slot. A lab without a living owner is removed unless it is `kept`."""

    name: str
    owner: int
    started: str
    kept: bool

    @property
    def alive(self) -> bool:
        """Whether the lab may still be in use."""
        return self.kept or _start_time(self.owner) == self.started


def claim(name: str, *, kept: bool) -> int:
    """Take a free slot, having removed every dead lab."""
    with locked(RUN / "lock"):
        taken = {}
        for slot, existing in claims().items():
            if existing.alive:
                taken[slot] = existing
                if kept and existing.name == name:
                    raise LabError(f"lab {name} is up already: python3 -m tests.lab down {name}")
            else:
                remove(slot)
        slot = next(slot for slot in SLOTS if slot not in taken and _untouched(slot))
        mine = Claim(name, os.getpid(), _start_time(os.getpid()), kept)
        _file(slot).write_text(json.dumps(asdict(mine)))
    return slot


def claims() -> dict[int, Claim]:
    """Every slot that someone has, or had."""
    found = {}
    for file in sorted(RUN.glob("*.json")):
        found[int(file.stem)] = Claim(**json.loads(file.read_text()))
    return found


def remove(slot: int) -> None:
    """Remove everything that a lab has made."""
    for name in cgroups.names(f"{slot}-"):
        cgroups.kill(name)
        cgroups.remove(name)
    network.remove(slot)
    remove_tree(WORK / str(slot))
    _file(slot).unlink(missing_ok=True)


def _file(slot: int) -> Path:
    return RUN / f"{slot}.json"


def _untouched(slot: int) -> bool:
    return not Path(f"/sys/class/net/{PREFIX}{slot}").exists()


def _start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
