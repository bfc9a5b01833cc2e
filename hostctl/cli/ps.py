"""Runs on the controller: `hostctl ps`: the containers of all hosts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .options import HostOptions, host_options, json_option

if TYPE_CHECKING:
    from hostctl.fleet.session import Session


@click.command("ps")
@click.option("-a", "--all", "everything", is_flag=True, help="Those that are stopped, too.")
@click.option("--project", default="", metavar="NAME", help="Only those of this project.")
@json_option
@host_options()
def command(everything: bool, project: str, as_json: bool, hosts: HostOptions) -> int:
    """List containers."""
    from .hosts import on_all, report_failures

    def rows(session: Session) -> list[dict[str, Any]]:
        from hostctl.fleet.session import call

        answer = call(session, "ps", {"all": everything, "project": project})
        return [header["data"] for header, _ in answer if header["type"] == "row"]

    results = on_all(hosts, rows)
    listed = {name: found for name, found in results.items() if isinstance(found, list)}
    if as_json:
        click.echo(json.dumps({"version": 1, "hosts": listed}, indent=2, ensure_ascii=False))
    else:
        click.echo(container_table(listed, with_host=len(results) > 1), nl=False)
    return report_failures(results)


def container_table(listed: dict[str, list[dict[str, Any]]], with_host: bool) -> str:
    """NAME, IMAGE, STATUS, PORTS of each container; the host in front where there are several."""
    from hostctl.report.table import table

    header = ["NAME", "IMAGE", "STATUS", "PORTS"]
    rows = [
        [name, *_cells(row)]
        for name, found in listed.items()
        for row in sorted(found, key=lambda row: str(row.get("name")))
    ]
    return table(["HOST", *header], rows) if with_host else table(header, [r[1:] for r in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    return [str(row.get(key) or "") for key in ("name", "image", "status", "ports")]
