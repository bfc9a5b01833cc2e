"""Runs on the controller: `hostctl push`: an image of a host into a registry."""

from __future__ import annotations

from typing import Any

import click
from hostctl_host.contract.errors import HostctlError

from .options import HostOptions, host_options, json_option
from .registries import Ground, Row, insecure_option, quiet_option, report


@click.command("push")
@click.argument("image")
@click.argument("destination", default="", metavar="[DESTINATION]")
@click.option(
    "--to",
    "pattern",
    default="",
    metavar="PATTERN",
    help="Into the stores of these hosts, without a registry; from the host of --limit, or this machine.",
)
@insecure_option
@quiet_option
@json_option
@host_options()
def command(
    image: str,
    destination: str,
    pattern: str,
    insecure: bool,
    quiet: bool,
    as_json: bool,
    hosts: HostOptions,
) -> int:
    """Push an image to its registry, or under another name to DESTINATION; with --to, to other hosts.

    Where several hosts have it, and it is the same, the first of them pushes it to the registry.
    """
    if pattern:
        from .ship import ship

        if destination:
            raise HostctlError(
                f"cannot push {image} both to {destination} and to hosts",
                hint="leave DESTINATION out, or --to",
                ref="two-destinations",
            )
        return ship(image, pattern, hosts, quiet, as_json)
    from hostctl_host.contract.reference import parse

    if destination:
        destination = str(parse(destination))
    ground = Ground(hosts, [destination or image], quiet)
    args: dict[str, Any] = {"image": image, "destination": destination, "insecure": insecure}
    targets = ground.targets
    if len(targets) > 1:
        seen = ground.rows("push", {**args, "look": True})
        having = {name: rows[0] for name, rows in seen.items() if isinstance(rows, list) and rows}
        if not having and any(isinstance(found, HostctlError) for found in seen.values()):
            return report(seen, as_json, _words)
        chosen = _one_of(having, image)
        targets = [target for target in targets if target.name == chosen]
    return report(ground.rows("push", args, targets), as_json, lambda row: _words(row, quiet))


def _one_of(having: dict[str, Row], image: str) -> str:
    """The host that pushes.

    Raises:
        HostctlError: none has it, or what they have differs.
    """
    if not having:
        raise HostctlError(
            f"cannot push {image}: no host has it",
            hint="hostctl pull it first",
            ref="image-missing",
        )
    if len({row["id"] for row in having.values()}) > 1:
        raise HostctlError(
            f"cannot push {image}: {', '.join(having)} have different images under this name",
            hint=f"choose one: -l {next(iter(having))}",
            ref="several-hosts",
        )
    return next(iter(having))


def _words(row: Row, quiet: bool = False) -> str:
    text = f"{row['name']} {row['digest']}"
    if quiet:
        return text
    parts = {"sent": row["sent"], "mounted": row["mounted"], "already there": row["present"]}
    return f"{text} " + ", ".join(
        f"{size / 1e6:.1f} MB {how}" for how, size in parts.items() if size
    )
