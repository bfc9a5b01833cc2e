"""Runs on the controller: `hostctl import`, `hostctl image import`: an image from a root file system's tar."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .images_on import fed, show_each
from .options import HostOptions, host_options, json_option


@click.command("import")
@click.argument("source", metavar="FILE|-")
@click.argument("name", default="", metavar="[REPOSITORY[:TAG]]")
@click.option("-m", "--message", default="", help="The comment in the image's history.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Default: each host's own.")
@json_option
@host_options()
def command(
    source: str, name: str, message: str, platform: str, as_json: bool, hosts: HostOptions
) -> int:
    """Make an image of one layer from a tar with a root file system, on every host."""
    from hostctl_host.contract.frames import BLOB_CHUNK
    from hostctl_host.contract.reference import parse

    from .archive_file import plain_file
    from .hosts import on_all

    args: dict[str, Any] = {
        "name": str(parse(name)) if name else "",
        "message": message,
        "platform": platform,
        "origin": "-" if source == "-" else Path(source).name,
    }
    with tempfile.TemporaryDirectory(prefix="hostctl-") as room:
        path = plain_file(source, Path(room), unpack=False)

        def pieces(_: Any) -> Iterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(BLOB_CHUNK):
                    yield piece

        results = on_all(hosts, lambda session: fed(session, "image import", args, "ready", pieces))
    return show_each(results, as_json, lambda row: str(row["id"]))
