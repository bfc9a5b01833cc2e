"""Runs on the test machine: `runtime: runc` on a host over SSH, from nothing to nothing. The tests are one story."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import state
from tests.e2e.command import Hostctl
from tests.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLAYBOOK = str(Path(__file__).with_name("stand_in.yml"))


@pytest.fixture(scope="module")
def before(own: Lab) -> dict[str, Any]:
    return state.kernel(own["web1"])


def test_an_unknown_name_is_the_controllers_error(hostctl: Hostctl) -> None:
    done = hostctl("plan", "-e", "runtime=kata", PLAYBOOK)
    assert done.code == 1
    assert "'kata' is no runtime; crun or runc of the host" in done.out + done.err
    assert "stand_in.yml:" in done.out + done.err


def test_plan_says_that_it_is_not_installed(hostctl: Hostctl, before: dict[str, Any]) -> None:
    assert before
    done = hostctl("plan", "-e", '{"install": []}', PLAYBOOK)
    assert done.code == 1
    assert "cannot run other-redis-1 with runc: it is not installed" in done.out + done.err
    assert "package" in done.out + done.err


def test_what_this_run_installs_is_no_error_of_its_plan(hostctl: Hostctl) -> None:
    done = hostctl("plan", PLAYBOOK)
    assert done.code == 2, done.out + done.err


def test_apply_then_nothing_to_do(hostctl: Hostctl) -> None:
    done = hostctl("apply", "--yes", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    done = hostctl("plan", PLAYBOOK)
    assert done.code == 0, done.out


def test_it_is_runc_that_made_them(own: Lab) -> None:
    made = own["web1"].sh("ls /var/lib/hostctl/containers/*/stand-in/state").split()
    assert {"other-redis-1", "other-client-1"} <= set(made)


def test_network_secrets_health_exec_logs_and_stats(hostctl: Hostctl, own: Lab) -> None:
    ping = "exec 3<>/dev/tcp/127.0.0.1/6379; echo PING >&3; head -n1 <&3"
    assert own["web1"].sh(f"bash -c '{ping}'").strip() == "+PONG"
    assert "from-client" in hostctl("exec", "other-redis-1", "redis-cli", "get", "key").out
    assert "hunter2" in hostctl("exec", "other-redis-1", "cat", "/pass").out
    assert "(healthy)" in hostctl("ps").out
    assert "OK" in hostctl("logs", "other-client-1").out
    assert hostctl("exec", "other-client-1", "sh", "-c", "exit 7").code == 7


def test_it_comes_back_after_its_end(hostctl: Hostctl, own: Lab) -> None:
    pid = own["web1"].sh("pgrep -x redis-server").strip()
    own["web1"].sh(f"kill -9 {pid}")
    deadline = time.monotonic() + 20
    while own["web1"].sh("pgrep -x redis-server || :").strip() in ("", pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while "(healthy)" not in hostctl("ps").out:
        assert time.monotonic() < deadline
    assert hostctl("plan", PLAYBOOK).code == 0


def test_kill_of_the_monitors_is_repaired(hostctl: Hostctl, own: Lab) -> None:
    pid = own["web1"].sh("pgrep -x redis-server")
    own["web1"].sh("pkill -9 -x hostctl-monitor")
    plan = hostctl("plan", "--json", PLAYBOOK)
    assert sorted(plan.changed()["web1"]) == [
        "update container.other-client-1",
        "update container.other-redis-1",
    ]
    assert hostctl("apply", "--yes", PLAYBOOK).code == 0
    assert own["web1"].sh("pgrep -x redis-server") == pid
    assert hostctl("plan", PLAYBOOK).code == 0


def test_destroy_leaves_nothing(hostctl: Hostctl, own: Lab, before: dict[str, Any]) -> None:
    done = hostctl("destroy", "--yes", "--volumes", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    deadline = time.monotonic() + 20
    while state.processes(own["web1"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert state.processes(own["web1"]) == []
    assert state.kernel(own["web1"]) == before
    assert own["web1"].sh("ls /var/lib/hostctl/containers; ls -d /run/runc 2>/dev/null || :") == ""
