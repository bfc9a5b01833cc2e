"""Runs on the controller: `hostctl import`, `hostctl image import`: an image from a root file system's tar."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from hostctl_host.contract.errors import HostctlError

from .images_on import fed, show_each
from .options import HostOptions, host_options, json_option


@click.command("import")
@click.argument("source", metavar="FILE|URL|-")
@click.argument("name", default="", metavar="[REPOSITORY[:TAG]]")
@click.option(
    "-c",
    "--change",
    "changes",
    multiple=True,
    metavar="INSTRUCTION",
    help="Of a Dockerfile, for the image's config, such as 'CMD [\"sh\"]'; repeatable.",
)
@click.option("-m", "--message", default="", help="The comment in the image's history.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Default: each host's own.")
@click.option("--checksum", default="", metavar="sha256:HEX", help="Of the tar as it comes.")
@json_option
@host_options()
def command(
    source: str,
    name: str,
    changes: tuple[str, ...],
    message: str,
    platform: str,
    checksum: str,
    as_json: bool,
    hosts: HostOptions,
) -> int:
    """Make an image of one layer from a tar with a root file system, on every host.

    A URL (http or https) is fetched by the hosts.
    """
    from hostctl_host.contract.dockerfile.changes import parse_change
    from hostctl_host.contract.reference import parse

    if checksum and not re.fullmatch(r"sha256:[0-9a-f]{64}", checksum):
        raise HostctlError(
            f"cannot use the checksum {checksum}",
            hint="write sha256: and 64 lowercase hex digits",
            ref="bad-checksum",
        )
    for change in changes:
        parse_change(change)
    remote = source.startswith(("http://", "https://"))
    args: dict[str, Any] = {
        "name": str(parse(name)) if name else "",
        "changes": list(changes),
        "message": message,
        "platform": platform,
        "checksum": checksum,
        "origin": source if remote or source == "-" else Path(source).name,
    }
    results = _from_url(source, args, hosts) if remote else _from_file(source, args, hosts)
    return show_each(results, as_json, lambda row: str(row["id"]))


def _from_url(url: str, args: dict[str, Any], hosts: HostOptions) -> dict[str, Any]:
    from urllib.parse import urlsplit

    from .images_on import rows_of

    if urlsplit(url).username or urlsplit(url).password:
        raise HostctlError(
            "cannot use an address with a login in it: it would stay in the image's history",
            hint=f"fetch it yourself: curl -fsSu USER ADDRESS | hostctl import - {args['name']}",
            ref="url-login",
        )
    return rows_of("image import", {**args, "url": url}, hosts)


def _from_file(source: str, args: dict[str, Any], hosts: HostOptions) -> dict[str, Any]:
    from hostctl_host.contract.frames import BLOB_CHUNK

    from .archive_file import plain_file
    from .hosts import on_all

    with tempfile.TemporaryDirectory(prefix="hostctl-") as room:
        path = plain_file(source, Path(room), unpack=False)

        def pieces(_: Any) -> Iterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(BLOB_CHUNK):
                    yield piece

        return on_all(hosts, lambda session: fed(session, "image import", args, "ready", pieces))
