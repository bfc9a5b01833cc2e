"""Runs on the test machine: one lab host for the services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Lab


@pytest.fixture(scope="package")
def services_lab() -> Iterator[Lab]:
    with Lab({"web1": {}}, with_images=False) as lab:
        yield lab
