"""Runs on the test machine: the lab and its images for every test, and a look for what was left.

A missing prerequisite is a failure, never a skip: `scripts/install-test-needs` installs them all.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest

from tests import leaks
from tests.lab import Lab
from tests.lab.services import Registry

os.environ[leaks.MARK] = uuid.uuid4().hex
_NAMES = "/run/netns"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses the lab is marked as such, and needs root."""
    for item in items:
        if {"lab", "registry", "images"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session", autouse=True)
def nothing_left() -> Iterator[None]:
    """Mounts, links, cgroups and processes after all tests are those from before.

    `HOSTCTL_SHARED_MACHINE=1` says that others test here at the same time.
    """
    before = leaks.snapshot()
    yield
    shared = bool(os.environ.get("HOSTCTL_SHARED_MACHINE"))
    deadline = time.monotonic() + 5  # the kernel takes namespaces apart in its own time
    while (found := leaks.left(before, shared=shared)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not found, f"tests left behind: {found}"


@pytest.fixture(scope="session", autouse=True)
def names_of_namespaces(nothing_left: None) -> Iterator[None]:
    """iproute2 mounts its folder for them at the first, and leaves it there; empty, it goes with us."""
    there = _NAMES in leaks.mounts()
    yield
    if not there and _NAMES in leaks.mounts() and not os.listdir(_NAMES):
        subprocess.run(["umount", _NAMES], check=True)


@pytest.fixture(scope="session")
def lab(nothing_left: None) -> Iterator[Lab]:
    """Two hosts with a registry, shared by all tests that leave them as they were."""
    with Lab({"web1": {}, "web2": {}}) as made:
        yield made


@pytest.fixture(scope="session")
def registry(lab: Lab) -> Registry:
    """The lab's registry; `registry.url` is what references begin with."""
    return lab.registry


@pytest.fixture(scope="session")
def images(registry: Registry) -> dict[str, str]:
    """References of the lab's images by short name: `images["redis:2"]`."""
    names = ("base:1", "shell:1", "shell:multi", "nginx:1", "nginx:2", "redis:1", "redis:2")
    return {name: f"{registry.url}/{name}" for name in names}
