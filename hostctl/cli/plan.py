"""Runs on the controller: `hostctl plan`."""

from __future__ import annotations

from pathlib import Path

import click

from .options import HostOptions, RunOptions, host_options, run_options
from .running import playbook_argument, run_playbook, show


@click.command("plan")
@playbook_argument
@host_options()
@run_options()
def command(playbook: Path, hosts: HostOptions, run: RunOptions) -> int:
    """Show what apply would change, and change nothing.

    Exits 0 where nothing differs, 2 where something does, 1 on an error.
    """
    from hostctl.report.run import Mode

    report = run_playbook(Mode.PLAN, playbook, hosts, run, dry=True)
    show(report, hosts, run)
    return report.exit_code
