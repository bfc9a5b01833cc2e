"""Runs on the controller: what plan, apply and destroy share: a run with its progress, then its report."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .hosts import session_options
from .options import HostOptions, RunOptions, default_inventories
from .variables import parse_extra_vars

if TYPE_CHECKING:
    from hostctl.desired.pins import Pins
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
    from hostctl.report.run import Mode
    from hostctl.report.style import Style
    from hostctl.request import Request

    pins = _pins(playbook, run.pin)
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
        pins=pins,
    )
    style = Style.of(sys.stderr)
    live = sys.stderr.isatty() and not run.as_json
    with Progress(sys.stderr, style, live=live, verbose=hosts.verbose) as progress:
        report = converge(request, progress)
        if pins is not None and mode is not Mode.DESTROY:
            whole = not (hosts.limit or run.tags or run.skip_tags) and report.is_whole
            for line in pins.finish(whole=whole):
                progress.tell(line)
        return report


def _pins(playbook: Path, refresh: bool) -> Pins | None:
    """The lock file beside the playbook; nothing is loaded where there is none."""
    if not refresh and not os.path.lexists(f"{playbook}.lock"):
        return None
    from hostctl.desired.pins import Pins

    return Pins.of(playbook, refresh)


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
