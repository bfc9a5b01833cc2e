"""Runs on the test machine: the host's init gets exit code 0 whatever fails, and each failure in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hostctl_host.agent import boot, unit
from hostctl_host.agent.host import Paths


@pytest.mark.parametrize("act", [boot.boot, boot.shutdown])
def test_a_host_that_cannot_be_used_is_said(
    act: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    container = tmp_path / "data" / "containers" / "shop_web"
    container.mkdir(parents=True)
    record = {"spec": {"name": "shop_web", "restart": "always"}, "project": "shop"}
    (container / "spec.json").write_text(json.dumps(record))
    (tmp_path / "run").write_text("no folder")
    assert act(Paths(str(tmp_path / "data"), str(tmp_path / "run"))) == 0  # type: ignore[operator]
    said = capfd.readouterr().err
    assert "run" in said and "Traceback" not in said


def test_a_starter_that_somebody_has_spoilt_names_nothing() -> None:
    assert unit.named("#!/bin/sh\nexec python3 -I -S '/x\n") == ("", False)
