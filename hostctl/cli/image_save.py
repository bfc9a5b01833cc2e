"""Runs on the controller: `hostctl save`, `hostctl image save`: images of a host as a tar."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
from hostctl_host.contract.errors import HostctlError

from .options import HostOptions, host_options

if TYPE_CHECKING:
    from hostctl.fleet.session import Session


@click.command("save")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file instead of stdout.")
@host_options()
def command(images: tuple[str, ...], output: Path | None, hosts: HostOptions) -> int:
    """Save images as a tar: an OCI layout that `docker load` reads, too.

    From the first host that has all of them.
    """
    from .hosts import on_targets, targets_without_playbook

    if output is None and sys.stdout.isatty():
        raise HostctlError(
            "cannot write an image to a terminal",
            hint="hostctl save -o FILE, or redirect stdout",
            ref="terminal-output",
        )
    failure: HostctlError | None = None
    for target in targets_without_playbook(hosts):

        def fetch(session: Session) -> None:
            _fetch(session, list(images), output)

        result = on_targets(hosts, [target], fetch)[target.name]
        if not isinstance(result, HostctlError):
            return 0
        failure = result
        if result.ref not in ("no-image", "image-missing"):
            break
    assert failure is not None
    raise failure


def _fetch(session: Session, images: list[str], output: Path | None) -> None:
    if output is None:
        _copy(session, images, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    temp = output.with_name(f".{output.name}.hostctl-{os.getpid()}")
    try:
        with temp.open("xb") as file:
            _copy(session, images, file)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(output)
    finally:
        temp.unlink(missing_ok=True)


def _copy(session: Session, images: list[str], file: BinaryIO) -> None:
    from hostctl.fleet.session import call

    for header, body in call(session, "image save", {"names": images}):
        if header["type"] == "data":
            file.write(body)
