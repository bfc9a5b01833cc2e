"""Runs on the test machine: a Debian 11 host (Python 3.9, nft 0.9.8) takes the quickstart like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import state
from tests.e2e.command import Hostctl
from tests.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

QUICKSTART = str(Path(__file__).parents[2] / "playbooks" / "quickstart.yml")


def test_debian_11_from_nothing_to_nothing() -> None:
    with Lab({"old": {"suite": "bullseye", "user": "ops"}}) as lab:
        old, hostctl = lab["old"], Hostctl(lab)
        assert old.sh("python3 --version").startswith("Python 3.9.")
        before = state.tree(old)
        planned = hostctl("plan", "--json", QUICKSTART)
        assert planned.code == 2, planned.out + planned.err
        applied = hostctl("apply", "--json", QUICKSTART)
        assert applied.code == 0, applied.out + applied.err
        assert sorted(applied.changed()["old"]) == sorted(planned.changed()["old"])
        assert "This is old." in lab["old"].sh(f"curl -sf -m 5 http://{old.address}:8080/")
        assert hostctl("plan", QUICKSTART).code == 0
        gone = hostctl("destroy", "--yes", "--volumes", QUICKSTART)
        assert gone.code == 0, gone.out + gone.err
        assert state.tree(old) == before
