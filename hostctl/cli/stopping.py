"""Runs on the controller: what `hostctl stop`, `start` and `restart` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import HostOptions

if TYPE_CHECKING:
    from hostctl.fleet.session import Session


grace_option = click.option(
    "--time",
    "grace",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long each may take to end before it is killed (default: as declared).",
)


def on_containers(
    verb: str, containers: tuple[str, ...], hosts: HostOptions, grace: float | None = None
) -> int:
    """The verb on these containers, or on those of these services, on every host that has them; their names on stdout.

    Args:
        grace: seconds before KILL; None: what was declared.
    """
    from .exec import without_absent
    from .hosts import on_targets, report_failures, targets_without_playbook

    targets = targets_without_playbook(hosts)
    arguments: dict[str, Any] = {"names": list(containers), "grace": grace}

    def act(session: Session) -> list[str]:
        from hostctl.fleet.session import call

        answer = call(session, verb, arguments)
        return [header["data"]["name"] for header, _ in answer if header["type"] == "row"]

    results = without_absent(on_targets(hosts, targets, act))
    for host, names in results.items():
        for name in names if isinstance(names, list) else ():
            click.echo(f"{host} {name}" if len(targets) > 1 else name)
    return report_failures(results)
