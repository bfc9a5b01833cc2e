"""Runs on the controller: `hostctl tag`, `hostctl image tag`: another name for an image."""

from __future__ import annotations

import click

from .images_on import rows_of
from .options import HostOptions, host_options


@click.command("tag")
@click.argument("source", metavar="IMAGE")
@click.argument("target", metavar="NAME[:TAG]")
@host_options()
def command(source: str, target: str, hosts: HostOptions) -> int:
    """Give an image another name, on every host that has it."""
    from hostctl_host.contract.reference import parse

    from .hosts import report_failures

    args = {"source": source, "target": str(parse(target))}
    return report_failures(rows_of("image tag", args, hosts))
