"""Runs on the controller: what plan, apply and destroy share: a run with its progress, then its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .hosts import session_options
from .options import HostOptions, RunOptions, default_inventories
from .variables import parse_extra_vars

if TYPE_CHECKING:
    from hostctl.report.run import Mode, RunReport

F = TypeVar("F", bound=Callable[..., Any])


def playbook_argument(function: F) -> F:
    """PLAYBOOK as `playbook`."""
    return click.argument("playbook", type=click.Path(path_type=Path))(function)


def run_playbook(
    mode: Mode,
    playbook: Path,
    hosts: HostOptions,
    run: RunOptions,
    *,
    dry: bool = False,
    volumes: bool = False,
) -> RunReport:
    """The run itself, with its progress on stderr. `dry` says what it would do."""
    from hostctl.converge import converge
    from hostctl.report.progress import Progress
    from hostctl.report.style import Style
    from hostctl.request import Request

    request = Request(
        mode=mode,
        playbook=playbook,
        sessions=session_options(hosts, run.lock_wait, playbook.parent / "modules"),
        inventories=hosts.inventories or default_inventories(),
        limit=hosts.limit,
        tags=_words(run.tags),
        skip_tags=_words(run.skip_tags),
        extra_vars=parse_extra_vars(hosts.extra_vars),
        prune=run.prune,
        dry=dry,
        volumes=volumes,
        forks=hosts.forks,
    )
    style = Style.of(sys.stderr)
    live = sys.stderr.isatty() and not run.as_json
    with Progress(sys.stderr, style, live=live, verbose=hosts.verbose) as progress:
        return converge(request, progress)


def show(report: RunReport, hosts: HostOptions, run: RunOptions) -> None:
    """The report on stdout, as text or JSON."""
    from hostctl.report.run import run_to_json
    from hostctl.report.style import Style
    from hostctl.report.text import render_run

    shown = report if run.diff else report.without_diffs()
    if run.as_json:
        text = json.dumps(run_to_json(shown), indent=2, ensure_ascii=False) + "\n"
    else:
        text = render_run(shown, Style.of(sys.stdout), hosts.verbose)
    sys.stdout.write(text)


def _words(values: tuple[str, ...]) -> tuple[str, ...]:
    """`-t a,b -t c` as a, b, c."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())
