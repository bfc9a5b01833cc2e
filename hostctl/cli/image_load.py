"""Runs on the controller: `hostctl load`, `hostctl image load`: images of an archive into all hosts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from .images_on import Row, fed, show_each
from .options import HostOptions, host_options, json_option


@click.command("load")
@click.option(
    "-i", "--input", "path", default="-", metavar="FILE", help="A tar, or a folder; default: stdin."
)
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Default: each host's own.")
@json_option
@host_options(without="i")
def command(path: str, quiet: bool, platform: str, as_json: bool, hosts: HostOptions) -> int:
    """Load the images of a tar (docker save, OCI layout), or of an OCI layout's folder.

    Each host gets only what it does not have.
    """
    from .archive_file import opened
    from .hosts import on_all

    with ExitStack() as stack:
        archive = stack.enter_context(opened(path))
        args: dict[str, Any] = {
            "members": archive.members,
            "links": archive.links,
            "platform": platform,
        }
        results = on_all(
            hosts, lambda session: fed(session, "image load", args, "wanted", archive.stream)
        )

    def text(row: Row) -> str:
        if quiet:
            return str(row["id"])
        return (
            f"Loaded image: {row['loaded']}" if row["loaded"] else f"Loaded image ID: {row['id']}"
        )

    return show_each(results, as_json, text)
