"""Runs on the controller: `hostctl system prune`: what nothing needs away from all hosts."""

from __future__ import annotations

import click

from .image_prune import prune
from .images_on import PRUNE_FILTERS, parse_filters, prune_options
from .options import HostOptions, host_options, json_option


@click.command("prune")
@prune_options("images without a name")
@json_option
@host_options(without="f")
def command(
    everything: bool,
    filters: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    hosts: HostOptions,
) -> int:
    """Remove what nothing needs: images, and what builds have made before.

    Containers, networks and volumes belong to projects: `hostctl apply --prune` and `destroy` remove those.
    """
    args = {"all": everything, "filters": parse_filters(filters, PRUNE_FILTERS), "cache": True}
    return prune(hosts, args, dry_run, yes, as_json, "system prune")
