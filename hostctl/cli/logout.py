"""Runs on the controller: `hostctl logout`: forgets the login of a registry."""

from __future__ import annotations

import json
import sys

import click

from .login import registry_host
from .options import json_option


@click.command("logout")
@click.argument("registry", default="docker.io")
@json_option
def command(registry: str, as_json: bool) -> int:
    """Forget the login of a registry (default: docker.io), in files and helpers."""
    from hostctl.credentials import Keyring

    host = registry_host(registry)
    places = Keyring().forget(host)
    if as_json:
        click.echo(json.dumps({"version": 1, "registry": host, "removed": places}, indent=2))
    elif places:
        sys.stderr.write(f"Logged out of {host}: removed from {', '.join(places)}.\n")
    else:
        sys.stderr.write(f"Not logged in to {host}.\n")
    return 0
