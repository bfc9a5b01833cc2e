"""Runs on the controller: `hostctl history`, `hostctl image history`: how an image was made."""

from __future__ import annotations

import json

import click

from .images_on import (
    cut,
    dump,
    format_option,
    good,
    id_text,
    rows_of,
    size_text,
    with_host,
)
from .options import HostOptions, host_options, json_option


@click.command("history")
@click.argument("image")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--no-trunc", is_flag=True, help="Whole lines.")
@format_option
@json_option
@host_options()
def command(
    image: str, quiet: bool, no_trunc: bool, form: str, as_json: bool, hosts: HostOptions
) -> int:
    """Show the steps that an image was made in, the last one first."""
    from .hosts import report_failures

    results = rows_of("image history", {"name": image}, hosts)
    several = len(results) > 1
    lines = [(host, row) for host, rows in good(results).items() for row in rows]
    for _, row in lines:
        if row["id"] != "<missing>":
            row["id"] = id_text(row["id"], no_trunc)
    if as_json:
        dump(results)
    elif quiet:
        for _, row in lines:
            click.echo(row["id"])
    elif form == "json":
        for host, row in lines:
            shown = {
                "Comment": row["comment"],
                "CreatedAt": row["created"],
                "CreatedBy": cut(row["created_by"], no_trunc),
                "CreatedSince": row["age"] or "N/A",
                "ID": row["id"],
                "Size": size_text(row["size"]),
            }
            click.echo(json.dumps({"Host": host, **shown} if several else shown))
    else:
        table = [
            (
                host,
                [
                    row["id"],
                    row["age"] or "N/A",
                    cut(row["created_by"], no_trunc),
                    size_text(row["size"]),
                    row["comment"],
                ],
            )
            for host, row in lines
        ]
        header = ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
        click.echo(with_host(header, table, several), nl=False)
    return report_failures(results)
