"""Runs on the controller: from the host options to sessions: targets without a playbook, and one call on all."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hostctl_host.contract.errors import HostctlError

from .options import HostOptions, default_inventories

if TYPE_CHECKING:
    from hostctl.fleet.ahead import Ahead
    from hostctl.fleet.session import Options, Session
    from hostctl.fleet.target import Target

T = TypeVar("T")


def targets_without_playbook(hosts: HostOptions, option: str = "--limit") -> list[Target]:
    """The selected hosts, as whom their containers belong to: root, unless a host says otherwise.

    Args:
        option: where the pattern was written, for errors.
    Raises:
        HostctlError: an unknown host, a variable that cannot be used, or no host at all.
    """
    from hostctl.fleet.target import Target

    return [Target.from_vars(name, found) for name, found in connections(hosts, option).items()]


def connections(hosts: HostOptions, option: str = "--limit") -> dict[str, dict[str, Any]]:
    """The rendered `ansible_*` and `hostctl_*` variables of the selected hosts, in order.

    Raises:
        HostctlError: an unknown host, or no host at all.
    """
    if _only_this_machine(hosts):
        # What the inventory would say: reading and rendering none costs more than a call of a verb here.
        return {"localhost": {"ansible_become": True, "ansible_connection": "local"}}
    from hostctl.desired.variables import connection_variables
    from hostctl.template import Engine

    from .variables import parse_extra_vars

    inventory = hosts.inventory()
    extra = parse_extra_vars(hosts.extra_vars)
    chosen = inventory.select(hosts.limit or "all", option)
    if not chosen:
        raise HostctlError(
            f"cannot find a host for {hosts.limit or 'all'}",
            hint="hostctl inventory --graph shows the groups and hosts",
            ref="no-hosts",
        )
    engine = Engine(Path.cwd())
    return {
        host.name: {
            "ansible_become": True,
            **connection_variables(host.name, inventory, engine, extra=extra),
        }
        for host in chosen
    }


def _only_this_machine(hosts: HostOptions) -> bool:
    """Whether there is neither an inventory nor anything else that could give this machine variables."""
    if hosts.inventories or default_inventories() or hosts.extra_vars:
        return False
    folders = ("group_vars", "host_vars")
    return hosts.limit in ("", "all", "localhost") and not any(map(os.path.exists, folders))


def session_options(
    hosts: HostOptions, lock_wait: float | None = None, kinds: Path | None = None
) -> Options:
    """What sessions need to know: the agent, deadlines, who asks for passwords, who holds the lock."""
    from hostctl.fleet import bundle
    from hostctl.fleet.ask import Asker
    from hostctl.fleet.session import Options

    return Options(
        bundle=bundle.build(kinds),
        asker=Asker(ssh_password=hosts.ask_password, become_password=hosts.ask_become_password),
        timeout=hosts.timeout,
        lock_wait=lock_wait,
        holder=holder(),
        debug=hosts.debug,
    )


def holder() -> str:
    """Who holds a host's lock, for other people: `ada@laptop`."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = str(os.getuid())
    return f"{who}@{os.uname().nodename}"


def on_all(hosts: HostOptions, work: Callable[[Session], T]) -> dict[str, T | HostctlError]:
    """One function on a `serve` session of every selected host, all at once."""
    return on_targets(hosts, targets_without_playbook(hosts), work)


def on_targets(
    hosts: HostOptions,
    targets: list[Target],
    work: Callable[[Session], T],
    mode: str = "serve",
    ahead: Ahead | None = None,
    options: Options | None = None,
) -> dict[str, T | HostctlError]:
    """One function on a session of each of these hosts, all at once.

    A single host is served in the calling thread: a terminal's signals go nowhere else.

    Args:
        mode: `store` for verbs that enter no container.
        ahead: sessions of that mode that were opened before, with these `options`.
    """
    from hostctl.fleet.fleet import Fleet

    options = options or session_options(hosts)
    fleet: Fleet[T] = Fleet(hosts.forks, ahead)

    def one(target: Target) -> T:
        with fleet.session(target, mode, options) as session:
            return work(session)

    if len(targets) > 1:
        return fleet.map(one, targets)
    try:
        return {target.name: one(target) for target in targets}
    except HostctlError as error:
        return {targets[0].name: error}


def report_failures(results: dict[str, Any]) -> int:
    """Say on stderr which hosts failed; the exit code: 0, 2 failed, 4 unreachable, 6 both."""
    from hostctl.fleet.target import Unreachable
    from hostctl.report.errors import render_errors
    from hostctl.report.style import Style

    failed = unreachable = False
    for error in results.values():
        if isinstance(error, HostctlError):
            sys.stderr.write(render_errors(error, Style.of(sys.stderr)))
            if isinstance(error, Unreachable):
                unreachable = True
            else:
                failed = True
    return 2 * failed + 4 * unreachable
