"""Runs on the controller: `hostctl image prune`: images that nothing needs away from all hosts."""

from __future__ import annotations

import sys
from typing import Any

import click
from hostctl_host.contract.errors import HostctlError

from .images_on import (
    PRUNE_FILTERS,
    Row,
    dump,
    good,
    parse_filters,
    prune_options,
    rows_of,
    size_text,
)
from .options import HostOptions, host_options, json_option


@click.command("prune")
@prune_options("those without a name")
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
    """Remove images without a name; with -a all that no container, release or project needs.

    The last releases of each service stay, so that they can be gone back to.
    """
    wanted = parse_filters(filters, PRUNE_FILTERS)
    return prune(
        hosts, {"all": everything, "filters": wanted}, dry_run, yes, as_json, "image prune"
    )


def prune(
    hosts: HostOptions, args: Row, dry_run: bool, yes: bool, as_json: bool, words: str
) -> int:
    """Show, ask, remove; `words` is the command that was typed."""
    from .hosts import holder, report_failures

    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise HostctlError(
                "cannot ask whether to remove images: there is no terminal",
                hint=f"hostctl {words} --yes, or --dry-run to see what would go",
                ref="not-confirmed",
            )
        planned = rows_of("image prune", {**args, "dry": True}, hosts)
        _show(planned, dry=True)
        if not any(
            row.get("freed") or "deleted" in row for r in good(planned).values() for row in r
        ):
            return report_failures(planned)
        if not click.confirm("Remove this?", err=True):
            return 1
    results = rows_of("image prune", {**args, "dry": dry_run, "holder": holder()}, hosts)
    if as_json:
        dump(results)
    else:
        _show(results, dry_run)
    return report_failures(results)


def _show(results: dict[str, Any], dry: bool) -> None:
    for host, rows in good(results).items():
        prefix = f"{host} " if len(results) > 1 else ""
        for row in rows:
            (what, value) = next(iter(row.items()))
            if what == "freed":
                text = "Would reclaim" if dry else "Total reclaimed space:"
                click.echo(f"{prefix}{text} {size_text(value)}")
            else:
                click.echo(f"{prefix}{what}: {value}")
