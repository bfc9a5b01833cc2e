"""Runs on the test machine: one playbook on two hosts over SSH, from nothing to nothing.

The tests of this file are the steps of one story: each takes up where the one before it stopped.
"""

from __future__ import annotations

import time
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import state
from tests.e2e.command import Hostctl
from tests.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

HOSTS = {"web1": {}, "web2": {"user": "ops"}}

PLAYBOOK = str(Path(__file__).with_name("first_light.yml"))
CREATED = {
    "package.tree",
    "directory./srv/light",
    "template./srv/light/index.html",
    "boot.hostctl",
    "image.nginx",
    "image.redis",
    "network.light_back",
    "volume.light_data",
    "container.light-redis-1",
    "container.light-web-1",
}


@pytest.fixture(scope="module")
def before(own: Lab) -> dict[str, Any]:
    return {name: (state.tree(own[name]), state.kernel(own[name])) for name in HOSTS}


def test_plan_shows_everything_and_writes_nothing(
    hostctl: Hostctl, own: Lab, before: dict[str, Any]
) -> None:
    done = hostctl("plan", "--json", PLAYBOOK)
    assert done.code == 2, done.err
    for changes in done.changed().values():
        assert set(changes) == {f"create {resource}" for resource in CREATED}
    assert set(done.json["hosts"]) == set(HOSTS)
    for name in HOSTS:
        assert (state.tree(own[name]), state.kernel(own[name])) == before[name]
        left = own[name].sh("cd /var/lib/hostctl; find . -type f -not -path './agents/*'")
        assert left == ""


def test_apply_does_exactly_the_plan(hostctl: Hostctl) -> None:
    planned = hostctl("plan", "--json", PLAYBOOK).changed()
    done = hostctl("apply", "--yes", "--json", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    # Resources that need not wait for each other finish in any order.
    applied = {host: sorted(changes) for host, changes in done.changed().items()}
    assert applied == {host: sorted(changes) for host, changes in planned.items()}
    for told in done.json["hosts"].values():
        assert (told["status"], told["failed"], told["generation"]) == ("ok", 0, 1)


def test_the_page_is_served_to_other_hosts(own: Lab) -> None:
    for here, there in permutations(HOSTS):
        url = f"http://{own[there].address}:8080/"
        assert own[here].sh(f"curl -sf -m 5 {url}") == f"<p>{there} says hello\n"


def test_the_port_is_served_on_the_host_itself(own: Lab) -> None:
    for name in HOSTS:
        assert "says hello" in own[name].sh("curl -sf -m 5 http://127.0.0.1:8080/")


def test_the_second_apply_changes_nothing(hostctl: Hostctl, own: Lab) -> None:
    pids = {name: state.processes(own[name]) for name in HOSTS}
    assert hostctl("plan", PLAYBOOK).code == 0
    done = hostctl("apply", "--yes", "--json", PLAYBOOK)
    assert done.code == 0
    for told in done.json["hosts"].values():
        assert (told["changed"], told["failed"], told["changes"]) == (0, 0, [])
    assert {name: state.processes(own[name]) for name in HOSTS} == pids


def test_ps_logs_and_exec(hostctl: Hostctl) -> None:
    rows = hostctl("ps")
    assert rows.code == 0
    assert rows.out.count("light-web-1") == 2 and "8080->80/tcp" in rows.out
    logs = hostctl("logs", "light-web-1")
    assert logs.out.count('"GET / HTTP/1.1" 200') >= 4
    ping = hostctl("exec", "light-redis-1", "redis-cli", "ping")
    assert (ping.code, ping.out.count("PONG")) == (0, 2)
    assert hostctl("exec", "light-redis-1", "sh", "-c", "exit 7").code == 7


def test_containers_find_each_other_by_name(hostctl: Hostctl) -> None:
    names = hostctl("exec", "light-web-1", "getent", "hosts", "redis")
    assert names.code == 0, names.err
    addresses = {line.split("|")[-1].split()[0] for line in names.out.splitlines()}
    own_hosts = hostctl("exec", "light-redis-1", "cat", "/etc/hosts").out
    assert all(address in own_hosts for address in addresses)


def test_one_environment_variable_replaces_just_its_container(hostctl: Hostctl, own: Lab) -> None:
    words = ("-e", "greeting=changed", PLAYBOOK)
    plan = hostctl("plan", "--json", *words)
    assert plan.code == 2
    for told in plan.json["hosts"].values():
        assert {change["resource"] for change in told["changes"]} == {"container.light-web-1"}
        named = [c for c in told["changes"] if c["field"] == "environment.GREETING"]
        assert [(c["before"], c["after"]) for c in named] == [("hello", "changed")]
        assert {change["action"] for change in told["changes"]} == {"replace"}
    redis = {name: own[name].sh("pgrep -x redis-server") for name in HOSTS}
    assert hostctl("apply", "--yes", *words).code == 0
    assert {name: own[name].sh("pgrep -x redis-server") for name in HOSTS} == redis
    told = hostctl("exec", "light-web-1", "printenv", "GREETING")
    assert told.out.count("changed") == 2
    assert hostctl("plan", *words).code == 0


def test_data_survives_another_image(hostctl: Hostctl, own: Lab) -> None:
    assert hostctl("exec", "light-redis-1", "redis-cli", "set", "key", "precious").code == 0
    words = ("-e", "redis=2", PLAYBOOK)
    done = hostctl("apply", "--yes", "--json", *words)
    assert done.code == 0, done.out
    for changes in done.changed().values():
        assert "replace container.light-redis-1" in changes
        assert not [change for change in changes if "volume" in change]
    version = hostctl("exec", "light-redis-1", "cat", "/etc/lab/version")
    assert [line.split()[-1] for line in version.out.splitlines()] == ["2", "2"]
    got = hostctl("exec", "light-redis-1", "redis-cli", "get", "key")
    assert got.out.count("precious") == 2


def test_destroy_leaves_the_host_as_it_was(
    hostctl: Hostctl, own: Lab, before: dict[str, Any]
) -> None:
    done = hostctl("destroy", "--yes", "--volumes", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    for name in HOSTS:
        tree, kernel = before[name]
        now = state.kernel(own[name])
        assert state.tree(own[name]) == tree
        assert {**now, "cgroups": []} == {**kernel, "cgroups": []}
        assert not [group for group in now["cgroups"] if "light" in group]
        folders = "cd /var/lib/hostctl; ls volumes containers networks projects"
        assert own[name].sh(folders).split() == [
            "containers:",
            "networks:",
            "projects:",
            "volumes:",
        ]


def test_no_process_and_no_cgroup_of_hostctl_outlives_destroy(
    own: Lab, before: dict[str, Any]
) -> None:
    """Its helpers (names, the monitors' zygote) notice that they have nothing left to do."""
    deadline = time.monotonic() + 20
    while any(state.processes(own[name]) for name in HOSTS) and time.monotonic() < deadline:
        time.sleep(0.5)
    for name in HOSTS:
        assert state.processes(own[name]) == []
        assert state.kernel(own[name]) == before[name][1]
