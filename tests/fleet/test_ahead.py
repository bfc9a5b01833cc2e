"""Sessions that are opened while a playbook is compiled, over a real sshd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.report import HostStatus

from hostctl.fleet.ahead import Ahead
from hostctl.fleet.ask import Asker
from hostctl.fleet.fleet import run_hosts
from hostctl.fleet.target import Target, Unreachable
from tests.fleet import sshd
from tests.fleet.program import Program, opened

pytestmark = pytest.mark.root


@pytest.fixture
def ahead(options):
    with Ahead("apply", options, 5) as made:
        yield made


def test_a_session_is_there_when_its_turn_comes_and_serves_once(server, options, dirs, ahead):
    target = Target.from_vars("web1", server.variables(**dirs))
    opened(target, options).close()
    ahead.open([target])
    reports = run_hosts([(target, Program())], "apply", options, lambda *_: None, 5, ahead)
    assert reports["web1"].status is HostStatus.OK
    assert ahead.take(target) is None


def test_a_host_without_the_agent_is_not_written_to_before_its_turn(server, options, dirs, ahead):
    target = Target.from_vars("web1", server.variables(**dirs))
    ahead.open([target])
    assert ahead.take(target) is None
    assert not os.path.exists(dirs["hostctl_data_dir"])
    ahead.open([target])
    reports = run_hosts([(target, Program())], "apply", options, lambda *_: None, 5, ahead)
    assert reports["web1"].status is HostStatus.OK
    assert Path(dirs["hostctl_data_dir"], "agents", options.bundle.digest).is_dir()


def test_nothing_is_asked_before_its_turn(server, options, dirs, tmp_path, monkeypatch, ahead):
    opened(Target.from_vars("web1", server.variables(**dirs)), options).close()
    key = tmp_path / "locked"
    sshd.keygen(key, "open sesame")
    monkeypatch.setattr(Asker, "can_ask", lambda _: True)
    monkeypatch.setattr("hostctl.fleet.ask._typed", lambda _: pytest.fail("asked"))
    variables = server.variables(**dirs, ansible_ssh_private_key_file=str(key))
    target = Target.from_vars("web1", variables)
    ahead.open([target])
    assert ahead.take(target) is None


def test_what_is_wrong_with_a_host_is_said_at_its_turn(server, options, ahead):
    nobody = Target.from_vars("web1", server.variables(ansible_user="nobody-there"))
    changed = Target.from_vars("web2", server.variables())
    ahead.open([nobody, changed])
    with pytest.raises(Unreachable, match="cannot log in to web1"):
        ahead.take(nobody)
    other = Target.from_vars("web2", server.variables(ansible_user="free"))
    assert ahead.take(other) is None


def test_what_nobody_took_is_closed(server, options, dirs):
    target = Target.from_vars("web1", server.variables(**dirs))
    opened(target, options).close()
    with Ahead("apply", options, 5) as ahead:
        ahead.open([target])
        opening = ahead._openings["web1"]
        assert opening.ended.wait(20)
        session = opening.session
    assert session is not None
    with pytest.raises(HostctlError):
        list(session.events())
