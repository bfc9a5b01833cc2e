"""Other people's firewalls that drop what is forwarded: told with a command, and the command is enough."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from hostctl_host.net import foreign

from .machine import Machine

pytestmark = pytest.mark.root

NFT = """
table {table} {{
  chain users {{
  }}
  chain {chain} {{
    type filter hook forward priority 10; policy {policy};
    {rules}
  }}
}}
"""


def nft(machine: Machine, **names: str) -> None:
    text = NFT.format(**{"table": "inet strict", "chain": "passage", "rules": "", **names})
    subprocess.run(
        ["ip", "netns", "exec", machine.name, "nft", "-f", "-"], input=text, text=True, check=True
    )


def docker(machine: Machine) -> None:
    for words in (
        "-N DOCKER-USER",
        "-P FORWARD DROP",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    ):
        machine.run("iptables", *words.split())


def legacy(machine: Machine) -> None:
    machine.run("iptables-legacy", "-P", "FORWARD", "DROP")
    machine.run("iptables-legacy", "-A", "FORWARD", "-i", "eth+", "-o", "eth1", "-j", "ACCEPT")


def told(machine: Machine) -> list[str]:
    machine.call("host.snapshot.clear()")
    found: list[str] = machine.get("network.warnings(network.Spec(name='shop_front'), host)")
    return found


def command(warning: str) -> str:
    return warning.split("to let it through: ")[1].partition("; that lasts until")[0]


@pytest.mark.parametrize(
    ("make", "owner", "word", "keep"),
    [
        (
            lambda m: nft(m, policy="drop"),
            "(table inet strict, chain passage)",
            "nft insert rule",
            "begin chain passage in its file (/etc/nftables.conf",
        ),
        (
            lambda m: nft(m, policy="accept", rules="tcp dport 22 accept\n    reject"),
            "(table inet strict, chain passage)",
            "nft insert rule inet strict passage",
            "iifname hc-",
        ),
        (
            docker,
            "of Docker (table ip filter, chain FORWARD)",
            "ip filter DOCKER-USER",
            "a drop-in of docker.service",
        ),
        (
            legacy,
            "(table filter of iptables-legacy, chain FORWARD)",
            "iptables-legacy -I FORWARD",
            "netfilter-persistent save",
        ),
    ],
    ids=["policy", "reject", "docker", "legacy"],
)
def test_traffic_flows_after_what_the_warning_says(
    machine: Machine, outside: Machine, make, owner: str, word: str, keep: str
) -> None:
    machine.apply(name="shop_front")
    web = machine.container("web", "shop_front")
    machine.publish("web", host_port=8080, target=80)
    machine.call("firewall.sync(paths)")
    web.call("tcp_echo(80, 'web')")
    outside.call("tcp_echo(80, 'outside')")
    assert told(machine) == []
    assert web.get("tcp_ask('10.99.0.2', 80)").startswith("outside")
    make(machine)
    assert not web.get("tcp_ask('10.99.0.2', 80)").startswith("outside")
    assert not outside.get("tcp_ask('10.99.0.1', 8080)").startswith("web")
    (warning,) = told(machine)
    assert f"network shop_front: the firewall {owner} drops what its containers send out" in warning
    assert "and what comes in for its containers" in warning
    assert word in command(warning)
    assert (
        keep in warning.partition("; that lasts until its rules are loaded again; to keep it: ")[2]
    )
    assert len(re.findall(r"hc-[0-9a-f]{8}", command(warning))) == 2
    machine.run("sh", "-ec", command(warning))
    assert told(machine) == []
    assert web.get("tcp_ask('10.99.0.2', 80)").startswith("outside")
    assert outside.get("tcp_ask('10.99.0.1', 8080)").startswith("web")


def test_one_direction_is_told_where_only_that_is_missing(machine: Machine) -> None:
    machine.apply(name="shop_front")
    nft(
        machine,
        policy="drop",
        rules="ct state established,related accept\n    ct status dnat accept",
    )
    (warning,) = told(machine)
    assert "send out;" in warning
    assert "oifname" not in warning


def test_an_exception_behind_the_end_or_with_a_condition_is_none(machine: Machine) -> None:
    machine.apply(name="shop_front")
    rules = 'iifname "hc-*" tcp dport 80 accept\n    drop\n    iifname "hc-*" accept'
    nft(machine, policy="drop", rules=rules + '\n    oifname "hc-*" accept')
    assert len(told(machine)) == 1


def test_exceptions_may_be_patterns_sets_and_in_chains(machine: Machine) -> None:
    machine.apply(name="shop_front")
    nft(machine, policy="drop", rules='jump users\n    oifname { "eth0", "hc-*" } accept')
    machine.run("nft", "add", "rule", "inet", "strict", "users", "iifname", "hc-*", "accept")
    assert told(machine) == []


def test_conditions_in_numbers_and_programs_that_fail_are_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    match = {"op": "==", "left": {"ct": {"key": "status"}}, "right": 1024}
    rule = {"family": "ip", "table": "t", "chain": "f", "expr": [{"match": match}, {"drop": None}]}
    chain = {"family": "ip", "table": "t", "name": "f", "hook": "forward", "type": "filter"}
    ruleset = json.dumps({"nftables": [{"chain": {**chain, "policy": "accept"}}, {"rule": rule}]})
    assert foreign.warnings("shop_front", "hc-12345678", {"ruleset": ruleset}) == []
    monkeypatch.setattr(foreign, "nft_path", lambda: "/nowhere/nft")
    assert foreign.read()["ruleset"] == ""


def test_ufw_is_told_in_its_own_words(machine: Machine) -> None:
    machine.apply(name="shop_front")
    machine.run("iptables", "-P", "FORWARD", "DROP")
    machine.run("iptables", "-N", "ufw-user-forward")
    machine.run("iptables", "-A", "FORWARD", "-j", "ufw-user-forward")
    (warning,) = told(machine)
    bridge = re.findall(r"hc-[0-9a-f]{8}", warning)[0]
    assert command(warning) == f"ufw route allow in on {bridge} && ufw route allow out on {bridge}"
    assert "to keep it" not in warning  # ufw writes them down itself
    for side in ("-i", "-o"):  # what these commands do
        machine.run("iptables", "-A", "ufw-user-forward", side, bridge, "-j", "ACCEPT")
    assert told(machine) == []


def test_firewalld_is_told_in_its_own_words_too(machine: Machine) -> None:
    machine.apply(name="shop_front")
    nft(machine, table="inet firewalld", chain="filter_FORWARD", policy="accept", rules="reject")
    (warning,) = told(machine)
    bridge = re.findall(r"hc-[0-9a-f]{8}", warning)[0]
    assert command(warning) == (
        f"firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
    )
    assert "to keep it" not in warning


def test_no_program_is_executed_where_nobody_else_has_a_table(machine: Machine) -> None:
    """Every plan looks before it gives its rights up, whether or not its document has networks."""
    machine.apply(name="shop_front")  # our own table
    spied = "from hostctl_host.net import foreign\nran = []\nreal = foreign.run\n"
    spied += "foreign.run = lambda words, **more: ran.append(words) or real(words, **more)\n"
    look = "found = foreign.read()\nout = len(ran), found['ruleset'] != ''"
    assert machine.call(spied + look) == [0, False]
    nft(machine, policy="accept")
    assert machine.call(look) == [1, True]
    machine.call("foreign.run = real")


def test_without_a_way_out_there_is_nothing_to_tell(machine: Machine) -> None:
    machine.apply(name="shop_front", internal=True)
    nft(machine, policy="drop")
    spec = "network.Spec(name='shop_front', internal=True)"
    assert machine.get(f"network.warnings({spec}, host)") == []
