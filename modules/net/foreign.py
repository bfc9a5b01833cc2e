"""Runs on the managed host: whether somebody else's firewall stops what hostctl's networks forward.

An `accept` of ours cannot take back another's `drop`, and tables of others are not ours to change. What is
found here becomes a warning with the narrowest exception, in the words of the table's owner. Two rules per
bridge are enough and open no more than they must: hostctl's own table still drops what no port publishes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..agent.run import run
from ..contract.errors import HostctlError
from .firewall import NFT_FOLDERS, nft_path

# Statements of a rule that neither narrow it nor decide.
_IDLE = ("counter", "log", "comment")
# linux/netfilter/nfnetlink.h, nf_tables.h: NFT_MSG_GETTABLE of the subsystem, a struct nfgenmsg, NFTA_TABLE_NAME.
_GET_TABLE, _ANY_FAMILY, _TABLE_NAME = 10 << 8 | 1, b"\0" * 4, 1
_FAMILIES = (1, 2)  # inet, ip
_VERDICTS = ("accept", "drop", "reject", "return")
# How commands call the two sides of a bridge.
_WORDS = {
    "in": {"side": "in", "key": "iifname", "flag": "-i"},
    "out": {"side": "out", "key": "oifname", "flag": "-o"},
}


_LASTS = "that lasts until its rules are loaded again; to keep it: "
_FIREWALLD = (
    "firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
)
_NFT_KEEP = (
    "begin chain {chain} in its file (/etc/nftables.conf, or what that includes) with: {rules}"
)
_IPTABLES_KEEP = "netfilter-persistent save (package iptables-persistent)"


@dataclass(frozen=True)
class Rule:
    """One rule: the interfaces that it names, anything else that narrows it, and what it does.

    Attributes:
        sides: `in` and `out` -> names of interfaces, with `*` at their end where they are patterns.
        rest: `established` or `dnat` where that is all that narrows it further, else `other` or empty.
        verdict: accept, drop, reject, return, or empty.
        target: the chain that it goes on to.
    """

    sides: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rest: str = ""
    verdict: str = ""
    target: str = ""

    def is_for_all(self) -> bool:
        return not self.sides and not self.rest


@dataclass
class Table:
    """A table of somebody else.

    Attributes:
        name: for people: `table ip filter`.
        insert: a command that puts a rule first, with {chain}, {bridge} and the words of `_WORDS`.
        keep: how a rule outlives the next time that the table's rules are loaded, with {chain} and {rules}.
        chains: name -> rules.
        forward: the chains that see what is forwarded -> whether what reaches their end is dropped.
    """

    name: str
    insert: str
    keep: str
    chains: dict[str, list[Rule]] = field(default_factory=dict)
    forward: dict[str, bool] = field(default_factory=dict)


def read() -> dict[str, str]:
    """The host's rules as its programs list them; takes a capability that a plan gives up.

    Empty where a program cannot list them: nothing is warned of then. Where nobody but hostctl has a table,
    as on most hosts, none is executed.
    """
    nft, legacy = nft_path() if _has_nft_tables() else "", _legacy_path()
    # Terse: without the members of sets, which may be a hundred thousand banned addresses.
    return {
        "ruleset": _listed(nft, "-j", "-t", "list", "ruleset") if nft else "",
        "legacy": _listed(legacy, "-S") if legacy else "",
    }


def _has_nft_tables() -> bool:
    """Whether somebody else has a table that could stop what is forwarded; True where that cannot be told."""
    from . import netlink
    from .conntrack import NETLINK_NETFILTER

    try:
        with netlink.Netlink(NETLINK_NETFILTER) as kernel:
            found = kernel.dump(_GET_TABLE, _ANY_FAMILY, "read the tables of nftables")
    except OSError:
        return True
    for body in found:
        name = netlink.attributes(body, len(_ANY_FAMILY)).get(_TABLE_NAME, b"")
        if body[0] in _FAMILIES and not _is_hostctl(name.rstrip(b"\0").decode("utf-8", "replace")):
            return True
    return False


def _listed(*words: str) -> str:
    try:
        done = run(words, timeout=30)
    except (HostctlError, OSError):
        return ""
    return done.stdout if done.code == 0 else ""


def warnings(network: str, bridge: str, listing: dict[str, str]) -> list[str]:
    """What is stopped, by whom, and what to type, one text per chain; empty where nothing is.

    Args:
        listing: from `read`.
    """
    tables = [*_nft_tables(listing.get("ruleset", "")), *_legacy_tables(listing.get("legacy", ""))]
    return [
        _text(network, bridge, table, chain, missing)
        for table in tables
        for chain in table.forward
        for missing in [_missing(table, chain, bridge)]
        if missing
    ]


def _text(network: str, bridge: str, table: Table, chain: str, missing: list[str]) -> str:
    owner, insert, chain, keep = _owner(table, chain)
    commands = [insert.format(chain=chain, bridge=bridge, **_WORDS[side]) for side in missing]
    rules = "; ".join(f"{_WORDS[side]['key']} {bridge} accept" for side in missing)
    what = {"in": "what its containers send out", "out": "what comes in for its containers"}
    stopped = " and ".join(what[side] for side in missing)
    return (
        f"network {network}: the firewall {owner} drops {stopped}; "
        f"to let it through: {' && '.join(dict.fromkeys(commands))}"
        + (f"; {_LASTS}{keep.format(chain=chain, rules=rules)}" if keep else "")
    )


def _owner(table: Table, chain: str) -> tuple[str, str, str, str]:
    """Who keeps the table, the command and chain for an exception that he leaves alone, and how it lasts.

    The last is empty where the command itself is for good.
    """
    where = f"{table.name}, chain {chain}"
    if "DOCKER-USER" in table.chains:
        keep = (
            "write them as ExecStartPost= into a drop-in of docker.service (systemctl edit docker)"
        )
        return f"of Docker ({where})", table.insert, "DOCKER-USER", keep
    if any(name.startswith("ufw-") for name in table.chains):
        return f"of ufw ({where})", "ufw route allow {side} on {bridge}", chain, ""
    if table.name == "table inet firewalld":
        return f"of firewalld ({where})", _FIREWALLD, chain, ""
    return f"({where})", table.insert, chain, table.keep


def _missing(table: Table, chain: str, bridge: str) -> list[str]:
    """The sides of the bridge that the chain does not let through."""
    rules = list(_walk(table, chain, set()))
    ends = any(rule.is_for_all() and rule.verdict in ("drop", "reject") for rule in rules)
    if not table.forward[chain] and not ends:
        return []
    accepting = [rule for rule in rules if rule.verdict == "accept"]
    passed = {
        side
        for side in _WORDS
        for rule in accepting
        if not rule.rest and all(s == side and _names(n, bridge) for s, n in rule.sides.items())
    }
    general = {rule.rest for rule in accepting if not rule.sides}
    if general >= {"established", "dnat"}:  # answers and published ports, whoever they are for
        passed.add("out")
    return [side for side in _WORDS if side not in passed]


def _walk(table: Table, chain: str, seen: set[str]) -> Iterator[Rule]:
    """The rules that a packet may meet, in their order, up to the first that decides for all."""
    if chain in seen:
        return
    seen.add(chain)
    for rule in table.chains.get(chain, ()):
        if rule.target:
            yield from _walk(table, rule.target, seen)
        else:
            yield rule
            if rule.is_for_all() and rule.verdict:
                return


def _names(patterns: tuple[str, ...], bridge: str) -> bool:
    return any(
        bridge.startswith(one[:-1]) if one.endswith("*") else one == bridge for one in patterns
    )


def _nft_tables(text: str) -> list[Table]:
    import json

    if not text:
        return []
    found: dict[tuple[str, str], Table] = {}
    for item in json.loads(text)["nftables"]:
        ((kind, body),) = item.items()
        family = body.get("family", "")
        if kind not in ("chain", "rule") or family not in ("ip", "inet"):
            continue
        name = f"{family} {body['table']}"
        insert = f"nft insert rule {name} {{chain}} {{key}} {{bridge}} accept"
        # The only table of that family and name is the one of iptables, whose rules nft shows as its own.
        keep = _IPTABLES_KEEP if name == "ip filter" else _NFT_KEEP
        table = found.setdefault((family, body["table"]), Table(f"table {name}", insert, keep))
        if kind == "chain":
            table.chains.setdefault(body["name"], [])
            if body.get("hook") == "forward" and body.get("type") == "filter":
                table.forward[body["name"]] = body.get("policy") == "drop"
        else:
            table.chains.setdefault(body["chain"], []).append(_nft_rule(body["expr"]))
    return [table for (_, name), table in found.items() if table.forward and not _is_hostctl(name)]


def _is_hostctl(table: str) -> bool:
    return table == "hostctl" or table.startswith("hostctl_")


def _nft_rule(statements: list[dict[str, Any]]) -> Rule:
    sides: dict[str, tuple[str, ...]] = {}
    rest: list[str] = []
    verdict = target = ""
    for statement in statements:
        ((name, body),) = statement.items()
        if name in _VERDICTS:
            verdict = name
        elif name in ("jump", "goto"):
            target = body["target"]
        elif name == "match":
            side, names = _interface(body)
            if side:
                sides[side] = names
            else:
                rest.append(_condition(body))
        elif name not in _IDLE:
            rest.append("other")
    return Rule(sides, rest[0] if len(rest) == 1 else "other" if rest else "", verdict, target)


def _interface(match: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    key = match["left"].get("meta", {}).get("key", "") if isinstance(match["left"], dict) else ""
    side = {"iifname": "in", "iif": "in", "oifname": "out", "oif": "out"}.get(key, "")
    right = match["right"]
    names = right.get("set", ()) if isinstance(right, dict) else [right]
    if match["op"] != "==" or not all(isinstance(name, str) for name in names):
        return "", ()
    return side, tuple(names)


def _condition(match: dict[str, Any]) -> str:
    left, right = match["left"], match["right"]
    key = left.get("ct", {}).get("key", "") if isinstance(left, dict) else ""
    values = right.get("set", ()) if isinstance(right, dict) else right
    values = values if isinstance(values, (list, tuple)) else [values]  # a name, or a number
    if match["op"] in ("in", "==") and key in ("state", "status"):
        for word in ("established", "dnat"):
            if word in values:
                return word
    return "other"


def _legacy_path() -> str:
    """`iptables-legacy`, where the kernel has its table of filters at all."""
    try:
        with open("/proc/net/ip_tables_names", encoding="ascii") as stream:
            if "filter" not in stream.read().split():
                return ""
    except OSError:
        return ""
    names = [os.path.join(folder, "iptables-legacy") for folder in NFT_FOLDERS]
    return next((path for path in names if os.access(path, os.X_OK)), "")


def _legacy_tables(text: str) -> list[Table]:
    """From `iptables-legacy -S`, which prints the commands that make the rules."""
    import shlex

    table = Table(
        "table filter of iptables-legacy",
        "iptables-legacy -I {chain} {flag} {bridge} -j ACCEPT",
        _IPTABLES_KEEP,
    )
    for line in text.splitlines():
        words = shlex.split(line)
        if words[0] == "-P" and words[1] == "FORWARD":
            table.forward["FORWARD"] = words[2] == "DROP"
        elif words[0] == "-A":
            table.chains.setdefault(words[1], []).append(_legacy_rule(words[2:]))
        else:
            table.chains.setdefault(words[1], [])
    return [table] if table.forward else []


def _legacy_rule(words: list[str]) -> Rule:
    sides: dict[str, tuple[str, ...]] = {}
    rest, target = [], ""
    while words:
        name, value, words = words[0], words[1] if len(words) > 1 else "", words[2:]
        if name in ("-i", "-o"):
            pattern = value[:-1] + "*" if value.endswith("+") else value
            sides["in" if name == "-i" else "out"] = (pattern,)
        elif name in ("-j", "-g"):
            target, words = value, []
        elif name == "--ctstate" or (name == "--state"):
            states = value.split(",")
            found = "established" if "ESTABLISHED" in states else ""
            rest.append("dnat" if "DNAT" in states else found or "other")
        elif (name, value) not in (("-m", "conntrack"), ("-m", "state")):
            rest.append("other")
    condition = rest[0] if len(rest) == 1 else "other" if rest else ""
    if target.lower() in _VERDICTS:
        return Rule(sides, condition, verdict=target.lower())
    return Rule(sides, condition, target=target)
