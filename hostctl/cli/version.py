"""Runs on the controller: `hostctl version`."""

from __future__ import annotations

import json

import click

from hostctl import __version__


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        from hostctl_host.contract.frames import PROTOCOL

        click.echo(json.dumps({"version": __version__, "protocol": PROTOCOL}))
    else:
        click.echo(f"hostctl {__version__}")
