"""Runs on the controller: `hostctl images`, `hostctl image ls`: the images of all hosts."""

from __future__ import annotations

import json

import click

from .images_on import (
    LIST_FILTERS,
    Row,
    dump,
    filter_option,
    format_option,
    good,
    id_text,
    parse_filters,
    rows_of,
    size_text,
    with_host,
)
from .options import HostOptions, host_options, json_option


@click.command("images")
@click.argument("reference", default="", metavar="[REPOSITORY[:TAG]]")
@click.option("-a", "--all", "_all", is_flag=True, help="As Docker's; there are no others here.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--digests", is_flag=True, help="With digests.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@filter_option
@format_option
@json_option
@host_options(without="f")
def command(
    reference: str,
    _all: bool,
    quiet: bool,
    digests: bool,
    no_trunc: bool,
    filters: tuple[str, ...],
    form: str,
    as_json: bool,
    hosts: HostOptions,
) -> int:
    """List images."""
    from .hosts import report_failures

    wanted = parse_filters(filters, LIST_FILTERS)
    if reference:
        wanted.append(("reference", reference))
    results = rows_of("images", {"filters": wanted}, hosts)
    several = len(results) > 1
    lines = [(host, row) for host, rows in good(results).items() for row in rows]
    if as_json:
        dump(results)
    elif quiet:
        for text in dict.fromkeys(id_text(row["id"], no_trunc) for _, row in lines):
            click.echo(text)
    elif form == "json":
        for host, row in lines:
            shown = _docker(row, no_trunc)
            click.echo(json.dumps({"Host": host, **shown} if several else shown))
    else:
        header = ["REPOSITORY", "TAG", *(["DIGEST"] if digests else ()), "IMAGE ID", "CREATED"]
        table = [(host, _cells(row, digests, no_trunc)) for host, row in lines]
        click.echo(with_host([*header, "SIZE"], table, several), nl=False)
    return report_failures(results)


def _cells(row: Row, digests: bool, whole: bool) -> list[str]:
    return [
        row["repository"] or "<none>",
        row["tag"] or "<none>",
        *([row["digest"] or "<none>"] if digests else ()),
        id_text(row["id"], whole),
        row["age"] or "N/A",
        size_text(row["size"]),
    ]


def _docker(row: Row, whole: bool) -> Row:
    """The fields of `docker images --format json`."""
    return {
        "Containers": str(len(row["containers"])),
        "CreatedAt": row["created"],
        "CreatedSince": row["age"] or "N/A",
        "Digest": row["digest"] or "<none>",
        "ID": id_text(row["id"], whole),
        "Repository": row["repository"] or "<none>",
        "Size": size_text(row["size"]),
        "Tag": row["tag"] or "<none>",
    }
