"""Runs on the controller: hostctl on one page: inventory, playbook, desired state, fleet, report."""

from __future__ import annotations

from hostctl.desired import compile_playbook
from hostctl.fleet.ahead import Ahead
from hostctl.fleet.fleet import run_hosts
from hostctl.inventory import load_inventory
from hostctl.report.progress import Progress
from hostctl.report.run import RunReport
from hostctl.request import Request


def converge(request: Request, progress: Progress) -> RunReport:
    """Plan, apply or destroy a playbook: plays one after another, the hosts of a batch at once.

    A host that fails is left out of what comes after, and stops no other.
    """
    inventory = load_inventory(request.inventories)
    report = RunReport(request.mode)
    with (
        Ahead(request.agent_mode, request.sessions, request.forks) as ahead,
        compile_playbook(
            request.playbook,
            inventory,
            **request.selection(),
            on_plays=lambda plays: ahead.open(request.first_targets(plays)),
        ) as program,
    ):
        for play in request.ordered(program.plays):
            for batch in play.batches:
                hosts = [host for host in batch if report.is_well(host.name)]
                with progress.showing(hosts):
                    done = run_hosts(
                        [request.work_for(host) for host in hosts],
                        request.agent_mode,
                        request.sessions,
                        progress.event,
                        request.forks,
                        ahead,
                    )
                report = report.merged(done)
    return report
