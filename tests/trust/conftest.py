"""Fixtures: the store's, with a registry for these tests."""

from tests.store.conftest import host, proxy, registry, store

__all__ = ["host", "proxy", "registry", "store"]
