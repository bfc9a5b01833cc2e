"""Runs on the controller: `hostctl start`: containers that were stopped, on every host that has them."""

from __future__ import annotations

import click

from .options import HostOptions, host_options
from .stopping import on_containers


@click.command("start")
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
@host_options()
def command(containers: tuple[str, ...], hosts: HostOptions) -> int:
    """Start containers, each after those that it needs."""
    return on_containers("start", containers, hosts)
