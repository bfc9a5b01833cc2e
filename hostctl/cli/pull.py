"""Runs on the controller: `hostctl pull`: an image from its registry into the stores of the hosts."""

from __future__ import annotations

from typing import Any

import click

from .options import HostOptions, host_options, json_option
from .registries import Ground, Row, insecure_option, quiet_option, report


@click.command("pull")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--platform", default="", metavar="OS/ARCH", help="Default: each host's own.")
@insecure_option
@quiet_option
@json_option
@host_options()
def command(
    images: tuple[str, ...],
    platform: str,
    insecure: bool,
    quiet: bool,
    as_json: bool,
    hosts: HostOptions,
) -> int:
    """Pull images on every host: what the tag points to now."""
    from hostctl_host.contract.reference import parse

    wanted = [str(parse(image)) for image in images]
    ground = Ground(hosts, wanted, quiet)
    targets = list(ground.targets)
    results: dict[str, Any] = {}
    for image in wanted:
        args = {"image": image, "platform": platform, "insecure": insecure}
        for name, found in ground.rows("pull", args, targets).items():
            before = results.get(name, [])
            results[name] = before + found if isinstance(found, list) else found
        targets = [target for target in targets if isinstance(results[target.name], list)]
        if not targets:
            break
    return report(results, as_json, lambda row: _words(row, quiet))


def _words(row: Row, quiet: bool) -> str:
    text = f"{row['name']} {row['digest']}"
    return text if quiet else f"{text} {row['status']}"
