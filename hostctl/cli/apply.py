"""Runs on the controller: `hostctl apply`."""

from __future__ import annotations

from pathlib import Path

import click

from .options import HostOptions, RunOptions, host_options, run_options
from .running import playbook_argument, run_playbook, show


@click.command("apply")
@playbook_argument
@click.option("-y", "--yes", is_flag=True, help="Accepted; apply asks nothing.")
@host_options()
@run_options()
def command(playbook: Path, yes: bool, hosts: HostOptions, run: RunOptions) -> int:
    """Make a playbook true.

    Exits 0, 1 on an error before anything was done on a host, 2 where some host failed, 4 where some host
    could not be reached, 6 on both.
    """
    from hostctl.report.run import Mode

    report = run_playbook(Mode.APPLY, playbook, hosts, run)
    show(report, hosts, run)
    return report.exit_code
