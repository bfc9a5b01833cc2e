"""Runs on the controller: `hostctl image inspect`: all that the hosts know of images."""

from __future__ import annotations

import json

import click

from .images_on import good, rows_of
from .options import HostOptions, host_options, json_option


@click.command("inspect")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@json_option
@host_options()
def command(images: tuple[str, ...], as_json: bool, hosts: HostOptions) -> int:  # always JSON
    """Print images as JSON, with Docker's field names; `Host` in each where there are several hosts."""
    from .hosts import report_failures

    results = rows_of("image inspect", {"names": list(images)}, hosts)
    several = len(results) > 1
    shown = [
        {"Host": host, **row} if several else row
        for host, rows in good(results).items()
        for row in rows
    ]
    click.echo(json.dumps(shown, indent=4, ensure_ascii=False))
    return report_failures(results)
