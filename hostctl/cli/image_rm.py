"""Runs on the controller: `hostctl rmi`, `hostctl image rm`: images away from the hosts that have them."""

from __future__ import annotations

import click

from .images_on import dump, good, rows_of
from .options import HostOptions, host_options, json_option


@click.command("rm")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Also what has several names, or is in use.")
@json_option
@host_options(without="f")
def command(images: tuple[str, ...], force: bool, as_json: bool, hosts: HostOptions) -> int:
    """Remove images; what a container was made from stays until the container goes."""
    from .hosts import holder, report_failures

    args = {"names": list(images), "force": force, "holder": holder()}
    results = rows_of("image rm", args, hosts)
    if as_json:
        dump(results)
        return report_failures(results)
    for host, rows in good(results).items():
        for row in rows:
            (what, name) = next(iter(row.items()))
            text = f"{what.capitalize()}: {name}"
            click.echo(f"{host} {text}" if len(results) > 1 else text)
    return report_failures(results)
