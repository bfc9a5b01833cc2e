"""Shops whose containers have users of their own, on this kernel and without idmaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host.runtime import idmap_probe

from ..shop import Shop, open_shop


@pytest.fixture(params=["idmapped", "shifted"])
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    monkeypatch.setattr(idmap_probe, "_known", {})
    if request.param == "shifted":
        monkeypatch.setattr(idmap_probe, "_succeeds", lambda trial: False)
    with open_shop(tmp_path, monkeypatch) as made:
        yield made
