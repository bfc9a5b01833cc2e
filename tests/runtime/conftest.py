"""Runs on the test machine: a workshop for containers, empty again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    try:
        yield made
    finally:
        made.clear()
    assert made.cgroups() == []
