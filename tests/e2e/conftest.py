"""The hosts of one file of tests, and hostctl on the machine that reaches them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.command import Hostctl
from tests.lab import Lab


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Hosts that no other file has: those of its `HOSTS`, else one."""
    with Lab(getattr(request.module, "HOSTS", {"web1": {}})) as made:
        yield made


@pytest.fixture(scope="module")
def hostctl(own: Lab) -> Hostctl:
    return Hostctl(own)
