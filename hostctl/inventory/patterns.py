"""Runs on the controller: Ansible's host patterns, for `hosts:` and `--limit`."""

from __future__ import annotations

import fnmatch
import os
import re
from typing import TYPE_CHECKING

from hostctl_host.contract.errors import HostctlError

from ..playbook.errors import did_you_mean

if TYPE_CHECKING:
    from .model import Inventory

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_SEPARATOR = re.compile(r"(?:(?<!\?):|\s)(?![^\[]*\])")
_SUBSCRIPT = re.compile(r"(?P<name>.+)\[(?:(?P<one>-?\d+)|(?P<start>-?\d*)[:-](?P<end>-?\d*))\]\Z")


def select(pattern: str, inventory: Inventory, within: str = "") -> list[str]:
    """Names of the hosts: the union, then every `&`, then every `!`; in the order of the inventory."""
    parts = split(pattern)
    unions = [part for part in parts if part[0] not in "&!"]
    chosen: set[str] = set()
    if not unions and parts:
        chosen.update(inventory.hosts)
    for part in unions:
        chosen.update(_one(part, inventory, pattern, within))
    for part in parts:
        if part[0] == "&":
            chosen &= set(_one(part[1:], inventory, pattern, within))
    for part in parts:
        if part[0] == "!":
            chosen -= set(_one(part[1:], inventory, pattern, within))
    return [name for name in [*inventory.hosts, *inventory.implicit] if name in chosen]


def split(pattern: str) -> list[str]:
    """The parts of a pattern.

    Neither `:` nor a space separates inside brackets, nor `:` in IPv6 addresses and in `(?:`.
    """
    out: list[str] = []
    for piece in pattern.split(","):
        piece = piece.strip()
        if piece.startswith("@"):
            out += _from_file(piece[1:])
        elif _is_ipv6(piece.lstrip("&!")):
            out.append(piece)
        else:
            out += _SEPARATOR.split(piece)
    return [part for part in out if part.strip("&!")]


def _is_ipv6(text: str) -> bool:
    return text.count(":") > 1 and re.fullmatch(r"[0-9a-fA-F:.]+", text) is not None


def _from_file(path: str) -> list[str]:
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as stream:
            return [line.strip() for line in stream if line.strip() and not line.startswith("#")]
    except OSError as error:
        raise HostctlError(
            f"cannot read the hosts in {path}: {error.strerror}", ref="limit-file"
        ) from error


def _one(part: str, inventory: Inventory, pattern: str, within: str) -> list[str]:
    if part.startswith("~"):
        try:
            wanted = re.compile(part[1:])
        except re.error as error:
            raise HostctlError(
                f"cannot use the host pattern {part}: {error}", where=within, ref="host-pattern"
            ) from error
        return _matching(inventory, lambda name: wanted.match(name) is not None)
    exact = _named(part, inventory)
    if exact is not None:
        return exact
    if match := _SUBSCRIPT.match(part):
        hosts = _one(match["name"], inventory, pattern, within)
        if match["one"] is not None:
            index = int(match["one"])
            if hosts and not -len(hosts) <= index < len(hosts):
                raise HostctlError(
                    f"cannot find {part}: {match['name']} has only {len(hosts)} "
                    f"host{'s' * (len(hosts) > 1)}",
                    where=within,
                    hint=f"the first is {match['name']}[0], the last {match['name']}[-1]",
                    ref="unknown-host",
                )
            return [hosts[index]] if hosts else []
        start, end = match["start"], match["end"]
        return hosts[int(start or 0) : int(end) + 1 if end and end != "-1" else None]
    if any(sign in part for sign in "*?["):
        return _matching(inventory, lambda name: fnmatch.fnmatchcase(name, part))
    known = [*inventory.hosts, *inventory.groups]
    raise HostctlError(
        f"cannot find {part}: neither a host nor a group of the inventory",
        where=within,
        hint=did_you_mean(part, known),
        ref="unknown-host",
    )


def _named(part: str, inventory: Inventory) -> list[str] | None:
    if part in inventory.groups:
        return inventory.members(part)
    if part in inventory.hosts:
        return [part]
    if part == "*":
        return list(inventory.hosts)
    if part in _THIS_MACHINE:
        from .model import InventoryHost

        inventory.implicit[part] = InventoryHost(part, {"ansible_connection": "local"})
        return [part]
    return None


def _matching(inventory: Inventory, test: object) -> list[str]:
    assert callable(test)
    found = {name for name in inventory.hosts if test(name)}
    for group in inventory.groups:
        if test(group):
            found.update(inventory.members(group))
    return [name for name in inventory.hosts if name in found]
