"""Runs on the controller: `hostctl stop`: containers, on every host that has them."""

from __future__ import annotations

import click

from .options import HostOptions, host_options
from .stopping import grace_option, on_containers


@click.command("stop")
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
@grace_option
@host_options()
def command(containers: tuple[str, ...], grace: float | None, hosts: HostOptions) -> int:
    """Stop containers, each after those that need it; they stay stopped, also over a reboot."""
    return on_containers("stop", containers, hosts, grace)
