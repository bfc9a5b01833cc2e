"""Hosts for the tests of networks; this machine's own network stays untouched."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Machine

_numbers = itertools.count()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A host without any other."""
    one = Machine(f"hcn{os.getpid()}-{next(_numbers)}", tmp_path / "host")
    yield one
    one.close()


@pytest.fixture
def outside(machine: Machine, tmp_path: Path) -> Iterator[Machine]:
    """Another machine, 10.99.0.2, on a wire with `machine`, 10.99.0.1, which is its router."""
    one = Machine(f"{machine.name}o", tmp_path / "outside")
    machine.ip("link", "add", "wire", "type", "veth", "peer", "wire", "netns", one.name)
    for side, address in ((machine, "10.99.0.1/24"), (one, "10.99.0.2/24")):
        side.ip("address", "add", address, "dev", "wire")
        side.ip("link", "set", "wire", "up")
    one.ip("route", "add", "default", "via", "10.99.0.1")
    yield one
    one.close()
