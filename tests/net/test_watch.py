"""Firewalls of others that flush all rules: hostctl's table comes back by itself, and only where it is wanted."""

from __future__ import annotations

import sys
import time

import pytest

from .machine import Machine

pytestmark = pytest.mark.root

PATIENCE = 60.0
MINE = "add table inet mine; add chain inet mine c { type filter hook input priority 0; }"


@pytest.fixture
def watched(machine: Machine) -> Machine:
    """A host with a network and a container whose names are looked after."""
    machine.apply(name="shop_front")
    one = machine.container("shop-web-1", "shop_front", dns=True)
    assert one.get("dns_ask('shop-web-1')")[2] == [one.address]  # who looks after it is there
    return machine


def ours(machine: Machine) -> str:
    """The table as nft lists it, empty without one."""
    name = machine.get("firewall.table_name(paths)")
    return machine.run("sh", "-c", f"nft list table inet {name} 2> /dev/null || true")


def comes_back(machine: Machine, before: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while ours(machine) != before:
        assert time.monotonic() < deadline, machine.run("nft", "list", "ruleset")
        time.sleep(0.05)


@pytest.mark.parametrize(
    "act",
    [
        "nft flush ruleset",
        f"printf 'flush ruleset\\n{MINE}\\n' | nft -f -",
        f"nft flush ruleset; printf 'flush ruleset\\n{MINE}\\n' | nft -f -",
        "nft delete table inet TABLE",
    ],
)
def test_it_comes_back(watched: Machine, act: str) -> None:
    before = ours(watched)
    table = watched.get("firewall.table_name(paths)")
    watched.run("sh", "-ec", act.replace("TABLE", table))
    comes_back(watched, before)
    assert watched.plan(name="shop_front") == []
    assert ("table inet mine" in watched.run("nft", "list", "ruleset")) == ("mine" in act)


def test_again_and_again(watched: Machine) -> None:
    before = ours(watched)
    for _ in range(3):
        watched.run("nft", "flush", "ruleset")
        comes_back(watched, before)


def test_what_the_records_ask_for_meanwhile_is_what_comes(watched: Machine) -> None:
    watched.publish("shop-web-1", host_port=8080, target=80)
    watched.run("nft", "flush", "ruleset")
    deadline = time.monotonic() + PATIENCE
    while "dport 8080" not in ours(watched):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_table_that_hostctl_takes_away_stays_away(watched: Machine) -> None:
    """The last network goes; and while another's rules come and go, nothing of ours does."""
    watched.containers[0].end()
    watched.apply(name="shop_front", state="absent")
    watched.run("sh", "-ec", f"nft '{MINE}'")
    # A later network is the sign that all notices before it have been read.
    watched.apply(name="shop_back")
    watched.container("shop-db-1", "shop_back", dns=True)
    before = ours(watched)
    watched.run("nft", "flush", "ruleset")
    comes_back(watched, before)
    assert "shop_front" not in before
    assert watched.run("nft", "list", "ruleset").count("table inet") == 1


def test_one_that_was_flushed_before_it_was_looked_at_is_loaded(machine: Machine) -> None:
    """Between loading and noting what the kernel made of it, somebody flushes: nothing is on record as ours."""
    machine.apply(name="shop_front")
    before = ours(machine)
    machine.run("nft", "flush", "ruleset")
    machine.call(
        "from hostctl_host.agent.files import read_json, write_json\n"
        "path = firewall._state_path(paths)\n"
        "write_json(path, {**read_json(path), 'listing': firewall._hash('')})"
    )
    assert machine.plan(name="shop_front") == [["update", "firewall"]]
    machine.apply(name="shop_front")
    assert ours(machine) == before


def test_where_none_is_wanted_nothing_is_loaded(machine: Machine) -> None:
    """Else loading would be noticed, and answered by loading, without end."""
    machine.call(
        "import signal\n"
        "from hostctl_host.net import watch\n"
        "firewall.nft_path = lambda: '/bin/false'\n"
        "watch.mend(paths.data, paths.run)\n"
        "signal.alarm(0)"
    )


def test_notices() -> None:
    """As the kernel packs them: several messages in a datagram, names padded to four bytes."""
    from hostctl_host.net.netlink import attribute
    from hostctl_host.net.watch import tables

    def notice(kind: int, family: int, name: str) -> bytes:
        body = bytes([family, 0, 0, 0]) + attribute(2, b"\0\0\0\0")
        body += attribute(1, name.encode() + b"\0")
        head = (16 + len(body)).to_bytes(4, sys.byteorder) + (10 << 8 | kind).to_bytes(
            2, sys.byteorder
        )
        return head + bytes(10) + body

    said = [
        notice(2, 1, "hostctl"),
        notice(2, 2, "hostctl"),  # of another family
        notice(2, 1, "hostctls"),
        notice(8, 1, "hostctl"),  # a rule
        notice(0, 1, "hostctl_0a1b2c3"),
    ]
    assert list(tables(b"".join(said))) == [("hostctl", False), ("hostctl_0a1b2c3", True)]
    assert list(tables(said[0][:20] + bytes(8))) == []
