"""Runs on the controller: what one run is asked to do, in one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.errors import HostctlError

from hostctl.fleet.session import HostProgram as Work
from hostctl.fleet.session import Options
from hostctl.fleet.target import Target
from hostctl.removal import Removal
from hostctl.report.run import Mode

if TYPE_CHECKING:
    from hostctl.desired import CompiledPlay
    from hostctl.desired.elsewhere import Builder
    from hostctl.desired.pins import Pins
    from hostctl.desired.program import HostProgram


@dataclass(frozen=True)
class Request:
    """One plan, apply or destroy of a playbook.

    Attributes:
        inventories: empty for this machine alone.
        sessions: the agent, deadlines, passwords.
        dry: only say what would be done.
        volumes: destroy removes volumes, too.
        pins: the playbook's lock file, where there is one.
    """

    mode: Mode
    playbook: Path
    sessions: Options
    inventories: tuple[str, ...] = ()
    limit: str = ""
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    dry: bool = False
    prune: bool = False
    volumes: bool = False
    forks: int = 50
    pins: Pins | None = None

    @property
    def agent_mode(self) -> str:
        """How the agents are started: sealed to plan, or to apply."""
        return "plan" if self.dry else "apply"

    def selection(self) -> dict[str, Any]:
        """What of the playbook is meant, as `compile_playbook` takes it."""
        return {
            "limit": self.limit,
            "tags": self.tags,
            "skip_tags": self.skip_tags,
            "extra_vars": self.extra_vars,
            "prune": self.prune,
            "check_mode": self.dry,
            "pins": self.pins,
        }

    def ordered(self, plays: Iterable[CompiledPlay]) -> list[CompiledPlay]:
        """The plays in the order in which they are done: backwards where they are undone."""
        listed = list(plays)
        return listed[::-1] if self.mode is Mode.DESTROY else listed

    def first_targets(self, plays: Iterable[CompiledPlay]) -> list[Target]:
        """The hosts that come first; none where a variable that says how to reach one is wrong."""
        groups = [(play, group) for play in self.ordered(plays) for group in play.groups]
        try:
            return [
                _target(host.name, play.connections[host.name], play.become)
                for play, group in groups[:1]
                for host in group
            ]
        except HostctlError:
            return []  # the run says what is wrong, and with which host

    def work_for(self, program: HostProgram | Builder) -> tuple[Target, Work]:
        """How to reach the program's host, and what is to be done there."""
        target = _target(program.host.name, program.connection, program.become)
        if self.mode is Mode.DESTROY:
            return target, Removal(program.project, self.volumes)
        return target, program


def _target(name: str, connection: Mapping[str, Any], become: bool) -> Target:
    """How the host is reached; a play that needs root wins over what the variables say."""
    return Target.from_vars(name, connection, become=become or None)
