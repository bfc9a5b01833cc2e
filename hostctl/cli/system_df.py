"""Runs on the controller: `hostctl system df`: what images, containers and volumes take on the hosts' disks."""

from __future__ import annotations

import json

import click

from .images_on import Row, format_option, good, id_text, rows_of, size_text, with_host
from .options import HostOptions, host_options, json_option

_KINDS = {
    "images": "Images",
    "containers": "Containers",
    "volumes": "Local Volumes",
    "cache": "Build Cache",
}


@click.command("df")
@format_option
@json_option
@host_options()
def command(form: str, as_json: bool, hosts: HostOptions) -> int:
    """Show what images, containers and volumes take, and what could be reclaimed; -v: of each."""
    from .hosts import report_failures

    results = rows_of("system df", {}, hosts)
    several = len(results) > 1
    found = {host: rows[0] for host, rows in good(results).items()}
    if as_json:
        click.echo(json.dumps({"version": 1, "hosts": found}, indent=2, ensure_ascii=False))
    elif form == "json":
        for host, row in found.items():
            for kind, title in _KINDS.items():
                shown = dict(zip(_FIELDS, [title, *_summary(row[kind])], strict=True))
                click.echo(json.dumps({"Host": host, **shown} if several else shown))
    elif hosts.verbose:
        for title, header, lines in _details(found):
            click.echo(f"{title}:\n\n{with_host(header, lines, several)}")
    else:
        lines = [
            (host, [title, *_summary(row[kind])])
            for host, row in found.items()
            for kind, title in _KINDS.items()
        ]
        header = ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
        click.echo(with_host(header, lines, several), nl=False)
    return report_failures(results)


_FIELDS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")


def _summary(kind: Row) -> list[str]:
    share = f" ({100 * kind['reclaimable'] // kind['size']}%)" if kind["size"] else ""
    return [
        str(kind["total"]),
        str(kind["active"]),
        size_text(kind["size"]),
        size_text(kind["reclaimable"]) + share,
    ]


def _details(found: dict[str, Row]) -> list[tuple[str, list[str], list[tuple[str, list[str]]]]]:
    images = [
        (
            host,
            [
                item["repository"] or "<none>",
                item["tag"] or "<none>",
                id_text(item["id"], whole=False),
                item["age"] or "N/A",
                size_text(item["size"]),
                size_text(item["unique"]),
                str(len(item["containers"])),
            ],
        )
        for host, row in found.items()
        for item in row["images"]["items"]
    ]
    containers = [
        (
            host,
            [c["name"], c["image"], "running" if c["running"] else "stopped", size_text(c["size"])],
        )
        for host, row in found.items()
        for c in row["containers"]["items"]
    ]
    volumes = [
        (host, [item["name"], str(item["links"]), size_text(item["size"])])
        for host, row in found.items()
        for item in row["volumes"]["items"]
    ]
    cache = [
        (
            host,
            [
                item["id"][:12],
                item["type"],
                size_text(item["size"]),
                "true" if item["in_use"] else "false",
            ],
        )
        for host, row in found.items()
        for item in row["cache"]["items"]
    ]
    head = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "UNIQUE SIZE", "CONTAINERS"]
    return [
        ("Images space usage", head, images),
        ("Containers space usage", ["NAME", "IMAGE", "STATUS", "SIZE"], containers),
        ("Local Volumes space usage", ["VOLUME NAME", "LINKS", "SIZE"], volumes),
        ("Build cache usage", ["CACHE ID", "CACHE TYPE", "SIZE", "IN USE"], cache),
    ]
