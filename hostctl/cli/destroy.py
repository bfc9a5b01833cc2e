"""Runs on the controller: `hostctl destroy`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from hostctl_host.contract.errors import HostctlError

from .options import HostOptions, RunOptions, host_options, run_options
from .running import playbook_argument, run_playbook, show


@click.command("destroy")
@playbook_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--volumes", is_flag=True, help="Remove volumes and what is in them, too.")
@host_options()
@run_options(whole=True)
def command(playbook: Path, yes: bool, volumes: bool, hosts: HostOptions, run: RunOptions) -> int:
    """Remove what a playbook's projects own, and put back what was found.

    Shows what goes and asks first, unless --yes. Exits as apply does; 1 where the answer is no.
    """
    from hostctl.report.run import Mode

    if not yes:
        if not sys.stdin.isatty():
            raise HostctlError(
                "cannot ask whether to destroy: there is no terminal",
                hint=f"hostctl destroy --yes {playbook}",
                ref="not-confirmed",
            )
        planned = run_playbook(Mode.DESTROY, playbook, hosts, run, dry=True, volumes=volumes)
        goes = planned.changed and not planned.exit_code
        show(planned.seen_as(Mode.PLAN) if goes else planned, hosts, run)
        if not goes:
            return planned.exit_code
        if not click.confirm("Destroy this?", err=True):
            return 1
    report = run_playbook(Mode.DESTROY, playbook, hosts, run, volumes=volumes)
    show(report, hosts, run)
    return report.exit_code
