"""Runs on the controller: `hostctl logs`: the logs of containers of all hosts, merged."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .options import HostOptions, host_options

if TYPE_CHECKING:
    from hostctl.fleet.session import Session


@click.command("logs")
@click.argument("containers", nargs=-1, metavar="[CONTAINER]...")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written.")
@click.option("-n", "--tail", default=-1, metavar="N", help="Only the last N lines of each.")
@click.option("-t", "--timestamps", is_flag=True, help="With times.")
@host_options(without="f")
def command(
    containers: tuple[str, ...], follow: bool, tail: int, timestamps: bool, hosts: HostOptions
) -> int:
    """Show the logs of containers; of all containers where none is named."""
    from hostctl.report.style import Style

    from .exec import without_absent
    from .hosts import on_targets, report_failures, targets_without_playbook
    from .prefix import Prefixer

    targets = targets_without_playbook(hosts)
    several = len(targets) > 1
    out = Prefixer(
        sys.stdout.buffer, Style.of(sys.stdout), prefixed=several or len(containers) != 1
    )
    arguments: dict[str, Any] = {
        "names": list(containers),
        "follow": follow,
        "tail": tail,
        "timestamps": timestamps,
    }

    def show(session: Session) -> int:
        from hostctl.fleet.session import call

        host = session.target.name
        answer = call(session, "logs", arguments)
        sources = set()
        for header, body in answer:
            if header["type"] == "data":
                source = " ".join(([host] if several else []) + [str(header.get("name", ""))])
                sources.add(source)
                out.write(source, body)
        for source in sources:
            out.finish(source)
        return answer.code or 0

    results = without_absent(on_targets(hosts, targets, show))
    codes = [code for code in results.values() if isinstance(code, int)]
    return max([*codes, report_failures(results)], default=0)
