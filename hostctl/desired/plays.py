"""Runs on the controller: what a compiled playbook is: plays, their hosts in groups, and a program for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inventory import InventoryHost
from ..playbook.kinds import Kinds
from ..playbook.model import Play, Task

if TYPE_CHECKING:
    from .program import HostProgram


@dataclass
class CompiledPlay:
    """One play and its hosts.

    Attributes:
        hosts: all hosts of the play, in order.
        groups: they as `serial` has them: one group after another.
        tasks: those that are wanted.
        connections: the variables that say how to reach each, by host name.
        programs: what each is told, by host name.
    """

    name: str
    project: str
    play: Play
    hosts: list[InventoryHost]
    groups: list[list[InventoryHost]] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    programs: dict[str, HostProgram] = field(default_factory=dict)

    @property
    def become(self) -> bool:
        """Whether its agents have to run as root."""
        return self.play.become or any(task.become for task in self.tasks)

    @property
    def batches(self) -> list[list[HostProgram]]:
        """The programs in the groups of `serial`."""
        return [[self.programs[host.name] for host in group] for group in self.groups]


@dataclass
class Program:
    """Everything that a run does, play by play.

    Attributes:
        modules: files of the user's own kinds; they travel with the agent.
        project: the project of the first play.
    """

    path: Path
    plays: list[CompiledPlay]
    kinds: Kinds
    source: str

    @property
    def modules(self) -> dict[str, Path]:
        return self.kinds.user

    @property
    def hosts(self) -> list[InventoryHost]:
        """All hosts of all plays, each once."""
        return list({host.name: host for play in self.plays for host in play.hosts}.values())

    @property
    def projects(self) -> list[str]:
        return list(dict.fromkeys(play.project for play in self.plays))


def batches(hosts: list[InventoryHost], serial: tuple[Any, ...]) -> list[list[InventoryHost]]:
    """The hosts in groups as `serial` says; its last step repeats. Percentages round down, to at least 1."""
    if not serial:
        return [hosts] if hosts else []
    out: list[list[InventoryHost]] = []
    left = list(hosts)
    steps = list(serial)
    while left:
        step = str(steps.pop(0) if len(steps) > 1 else steps[0])
        size = max(1, len(hosts) * int(step[:-1]) // 100) if step.endswith("%") else int(step)
        out.append(left[:size])
        left = left[size:]
    return out
