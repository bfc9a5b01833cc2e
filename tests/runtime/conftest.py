"""Runs on the test machine: a workshop for containers, empty again afterwards."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host.runtime import (
    cgroup,
)
from hostctl_host.runtime.cgroup import Cgroup, Hierarchies

from tests.runtime.command import Command
from tests.runtime.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    try:
        yield made
    finally:
        made.clear()
    assert made.cgroups() == []


@pytest.fixture
def oci(tmp_path: Path) -> Iterator[Command]:
    """The OCI command line; its containers are gone afterwards."""
    made = Command(tmp_path)
    try:
        yield made
    finally:
        made.clear()


@pytest.fixture
def own() -> Iterator[Cgroup]:
    """A cgroup in all hierarchies of this machine."""
    made = cgroup.prepare(f"hostctl/test-{uuid.uuid4().hex[:12]}", {})
    try:
        yield made
    finally:
        cgroup.release(made)
    assert not [folder for folder in made.folders() if os.path.isdir(folder)]


@pytest.fixture(params=["v1", "v2"])
def either(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    """A cgroup in this machine's version 1 hierarchies alone, or in version 2's."""
    found = cgroup.detect()
    only = Hierarchies(found.v1, "") if request.param == "v1" else Hierarchies({}, found.v2)
    made = Cgroup(f"hostctl/test-{uuid.uuid4().hex[:12]}", only)
    cgroup.make(made)
    try:
        yield made
    finally:
        cgroup.release(made)
