"""Runs on the controller: `hostctl restart`: containers, on every host that has them."""

from __future__ import annotations

import click

from .options import HostOptions, host_options
from .stopping import grace_option, on_containers


@click.command("restart")
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
@grace_option
@host_options()
def command(containers: tuple[str, ...], grace: float | None, hosts: HostOptions) -> int:
    """Stop containers, each after those that need it, and start them again in order."""
    return on_containers("restart", containers, hosts, grace)
