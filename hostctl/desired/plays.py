"""Runs on the controller: what a compiled playbook is: plays, their hosts in groups, and a program for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inventory import InventoryHost
from ..playbook.kinds import Kinds
from ..playbook.model import Play, Task

if TYPE_CHECKING:
    from ..fleet.yard import Yard
    from .elsewhere import Builder
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
        builders: hosts that build images for the first group and are not in it, by name.
        yard: what the hosts build for each other; None where each makes its own.
    """

    name: str
    project: str
    play: Play
    hosts: list[InventoryHost]
    groups: list[list[InventoryHost]] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    programs: dict[str, HostProgram] = field(default_factory=dict)
    builders: dict[str, Builder] = field(default_factory=dict)
    yard: Yard | None = None

    @property
    def become(self) -> bool:
        """Whether its agents have to run as root."""
        return self.play.become or any(task.become for task in self.tasks)

    @property
    def batches(self) -> list[list[HostProgram | Builder]]:
        """The programs in the groups of `serial`; who builds for them comes with the first."""
        found: list[list[HostProgram | Builder]] = [
            [self.programs[host.name] for host in group] for group in self.groups
        ]
        if found:
            found[0] += self.builders.values()
        return found


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

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        """What hosts were to have from each other is no longer kept."""
        for play in self.plays:
            if play.yard is not None:
                play.yard.close()

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


def yard_of(compiled: CompiledPlay, *, pinning: bool) -> Yard | None:
    """Where the hosts meet, if one of them may build for another, or what tags mean is to be told."""
    sections = compiled.play.sections
    bodies = [
        body
        for name in ("images", "containers")
        for body in sections.get(name, {}).values()
        if isinstance(body, dict) and body.get("build") is not None
    ]
    several = bodies and len(compiled.hosts) > 1
    if not (several or pinning or any(body.get("on") for body in bodies)):
        return None
    from ..fleet.yard import Yard

    return Yard(host.name for host in compiled.hosts)
