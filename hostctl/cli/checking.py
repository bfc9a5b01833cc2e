"""Runs on the controller: `hostctl build --check`: the lint of one Dockerfile, on the screen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import click


def check_dockerfile(
    text: str,
    place: Path | None,
    folder: Path | None,
    *,
    arguments: Mapping[str, str],
    target: str = "",
    contexts: Collection[str] = (),
) -> int:
    """Print the findings.

    Args:
        text: of the Dockerfile; `place` is its file, None where it came from stdin.
        folder: the context, whose .dockerignore is looked at; None: there is none.
        contexts: names of additional contexts.
    Returns:
        the exit code: 0 without findings, else 1.
    Raises:
        DockerfileError: the file cannot be built, or a pattern of .dockerignore is none.
    """
    from hostctl_host.contract.dockerfile import lint
    from hostctl_host.contract.dockerfile.parse import parse

    from hostctl.desired.context import read_ignore

    dockerfile = parse(text, str(place or "Dockerfile"))
    findings = lint.check(
        dockerfile,
        arguments,
        target=target,
        contexts=contexts,
        ignore=read_ignore(folder, place) if folder else None,
    )
    click.echo(lint.render(findings, dockerfile), nl=False)
    return 1 if findings else 0
