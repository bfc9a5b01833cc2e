"""Fixtures of the store's tests: one registry for all of them, a store for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostctl_host.agent.host import Host, Paths
from hostctl_host.store.store import Store

from tests.store.box import Box
from tests.store.registries import Proxy, RunningRegistry, start_registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    running = start_registry(str(tmp_path_factory.mktemp("registry")))
    yield running
    running.stop()


@pytest.fixture
def proxy(registry: RunningRegistry) -> Iterator[Proxy]:
    running = Proxy(registry.host)
    yield running
    running.stop()


@pytest.fixture
def host(tmp_path) -> Host:
    return Host(paths=Paths(str(tmp_path / "data"), str(tmp_path / "run")), project="test")


@pytest.fixture
def store(host: Host) -> Store:
    return Store(host.paths.data)


@pytest.fixture
def box(tmp_path):
    """Unpacks in a folder whose neighbour must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    work = tmp_path / "work"
    work.mkdir()
    return Box(work, outside)
