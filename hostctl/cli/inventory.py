"""Runs on the controller: `hostctl inventory`: the hosts, their groups and variables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .options import HostOptions, host_options

if TYPE_CHECKING:
    from hostctl.inventory import Inventory


@click.command("inventory")
@click.option("--list", "as_list", is_flag=True, help="JSON, as ansible-inventory prints it.")
@click.option("--graph", is_flag=True, help="A tree of groups and hosts (the default).")
@click.option("--json", "as_json", is_flag=True, help="The same as --list.")
@host_options()
def command(as_list: bool, graph: bool, as_json: bool, hosts: HostOptions) -> None:
    """Show the inventory."""
    inventory = hosts.inventory()
    chosen = {host.name for host in inventory.select(hosts.limit or "all", "--limit")}
    if (as_list or as_json) and not graph:
        listing = limited(inventory.as_json(), chosen)
        click.echo(json.dumps(listing, indent=4, ensure_ascii=False, sort_keys=True))
    else:
        click.echo("\n".join(graph_lines(inventory, chosen)))


def limited(listing: dict[str, Any], chosen: set[str]) -> dict[str, Any]:
    """The listing with the chosen hosts only; groups stay."""
    hostvars = listing["_meta"]["hostvars"]
    out: dict[str, Any] = {
        "_meta": {"hostvars": {name: found for name, found in hostvars.items() if name in chosen}}
    }
    for name, group in listing.items():
        if name != "_meta":
            kept = dict(group)
            if "hosts" in kept:
                kept["hosts"] = [host for host in kept["hosts"] if host in chosen]
            out[name] = kept
    return out


def graph_lines(inventory: Inventory, chosen: set[str]) -> list[str]:
    """`@group:` and its members below it, children first, as `ansible-inventory --graph` draws them."""

    def below(name: str, depth: int) -> list[str]:
        group = inventory.groups[name]
        lines = [f"{'  |' * depth}--@{name}:" if depth else f"@{name}:"]
        for child in sorted(group.children):
            lines += below(child, depth + 1)
        bar = "  |" * (depth + 1)
        return lines + [f"{bar}--{host}" for host in sorted(group.hosts) if host in chosen]

    return below("all", 0)
