"""Runs in tests: a name that DNS cannot have is said like any other name that is not found."""

from __future__ import annotations

import pytest

from hostctl.fleet import session
from hostctl.fleet.bundle import Bundle
from hostctl.fleet.target import Target, Unreachable


def test_a_name_that_cannot_be() -> None:
    target = Target.from_vars("web1", {"ansible_host": "a..b"})
    with pytest.raises(Unreachable, match=r"cannot find web1: a\.\.b"):
        session.connect(target, session.Options(Bundle("0" * 64, "/nonexistent")))
