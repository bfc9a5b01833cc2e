"""Runs on the controller: a playbook as it was written: plays, tasks and declared sections, with places."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..yaml import Place

SECTIONS = ("images", "networks", "volumes", "secrets", "configs", "containers")
TASK_SECTIONS = ("pre_tasks", "tasks", "post_tasks")


@dataclass(frozen=True)
class Task:
    """One task. What may hold templates is kept as written, beside its place.

    Attributes:
        kind: the module key, without `ansible.builtin.`.
        args: its arguments: a map, or nothing.
        when: conditions that must all hold.
        loop: None where there is no loop.
        changed_when, failed_when: conditions; None where the kind decides.
        section: `pre_tasks`, `tasks`, `post_tasks` or `handlers`.
        keys: the task's whole map, for the places of its keys.
    """

    kind: str
    args: dict[str, Any]
    where: Place
    args_where: Place
    keys: dict[str, Any]
    name: str = ""
    when: tuple[Any, ...] = ()
    loop: Any = None
    loop_var: str = "item"
    index_var: str = ""
    label: Any = None
    register: str = ""
    notify: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    vars: dict[str, Any] = field(default_factory=dict)
    ignore_errors: Any = False
    changed_when: tuple[Any, ...] | None = None
    failed_when: tuple[Any, ...] | None = None
    no_log: Any = False
    become: bool | None = None
    section: str = "tasks"

    @property
    def title(self) -> str:
        return self.name or self.kind

    def place(self, *keys: Any) -> Place:
        """The place of a value below one of the task's keys."""
        return self.where.walk(self.keys, keys)


@dataclass(frozen=True)
class Play:
    """One play. `sections` holds the declared graph: section -> key -> body."""

    name: str
    project: str
    hosts: str
    where: Place
    keys: dict[str, Any]
    become: bool = False
    serial: tuple[Any, ...] = ()
    tags: tuple[str, ...] = ()
    vars: dict[str, Any] = field(default_factory=dict)
    vars_files: tuple[Any, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    connection: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    handlers: tuple[Task, ...] = ()
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    force_handlers: bool = False
    prune: bool = False
    no_log: Any = False

    def place(self, *keys: Any) -> Place:
        """The place of a value below one of the play's keys."""
        return self.where.walk(self.keys, keys)


@dataclass(frozen=True)
class Playbook:
    """All plays of a file."""

    path: Path
    plays: tuple[Play, ...]

    @property
    def folder(self) -> Path:
        return self.path.parent
