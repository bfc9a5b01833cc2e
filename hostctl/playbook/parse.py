"""Runs on the controller: a playbook's YAML into `Playbook`, with every error of its shape at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..inventory.files import display
from ..yaml import Map, Place, Seq, load_file
from ..yaml.values import place_of
from . import instead, keys
from .errors import Collector, did_you_mean
from .model import SECTIONS, TASK_SECTIONS, Play, Playbook, Task
from .tasks import parse_task, words

_ALIASES = {"services": "containers"}
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_.-]*\Z")


def parse_playbook(path: Path, kinds: frozenset[str], errors: Collector) -> Playbook:
    """Read a playbook. What is wrong goes to `errors`; what is right is there to be checked further.

    Args:
        kinds: names of the task kinds that exist.
    Raises:
        HostctlError: no such file, YAML syntax.
    """
    value = load_file(display(str(path)), errors)
    plays: list[Play] = []
    if value is None or (isinstance(value, Seq) and not value):
        errors.add(
            "cannot use the playbook: it is empty", where=display(str(path)), ref="playbook-empty"
        )
    elif isinstance(value, Map):
        errors.add(
            "cannot use the playbook: it is one map, not a list of plays",
            where=place_of(value),
            hint="a Compose file's services go into a play: `- hosts: all`, then `containers:`"
            if "services" in value
            else "begin the play with `- hosts:`",
            ref="playbook-shape",
        )
    elif not isinstance(value, Seq):
        errors.add(
            "cannot use the playbook: it is no list of plays",
            where=Place(display(str(path)), 1, 1),
            ref="playbook-shape",
        )
    else:
        root = Place(value.file, value.line, value.column)
        for index, item in enumerate(value):
            where = root.key(value, index)
            # one play is the usual case: its key paths then begin at the play's own keys
            where = Place(
                where.file, where.line, where.column, "" if len(value) == 1 else f"plays[{index}]"
            )
            if isinstance(item, Map):
                plays.append(_Parser(item, where, kinds, errors).play(path.stem))
            else:
                errors.add("cannot use this play: it is no map", where=where, ref="playbook-shape")
    return Playbook(path, tuple(plays))


class _Parser:
    """One play."""

    def __init__(self, data: Map, where: Place, kinds: frozenset[str], errors: Collector) -> None:
        self.data = data
        self.where = where
        self.kinds = kinds
        self.errors = errors

    def play(self, stem: str) -> Play:
        data = self.data
        self.known_keys()
        hosts = data.get("hosts")
        if isinstance(hosts, Seq):
            hosts = ",".join(str(item) for item in hosts)
        if not isinstance(hosts, str) or not hosts.strip():
            self.errors.add(
                "cannot use the play: it names no hosts",
                where=self.where if "hosts" not in data else self.at("hosts"),
                hint="add `hosts: all`, or the name of a host or group",
                ref="play-hosts",
            )
            hosts = ""
        self.become_keys()
        tasks = tuple(task for section in TASK_SECTIONS for task in self.tasks(section))
        return Play(
            name=str(data.get("name") or hosts),
            project=self.project(stem),
            hosts=hosts,
            where=self.where,
            keys=data,
            become=self.boolean("become", False),
            serial=self.serial(),
            tags=words(data.get("tags")),
            vars=self.map("vars"),
            vars_files=tuple(self.items("vars_files")),
            environment=self.map("environment"),
            connection=self.connection(),
            tasks=tasks,
            handlers=tuple(self.tasks("handlers")),
            sections=self.sections(),
            prune=self.boolean("prune", False),
            no_log=data.get("no_log", False),
        )

    def at(self, *path: Any, name: bool = False) -> Place:
        return self.where.walk(self.data, path, name=name)

    def known_keys(self) -> None:
        for key in self.data:
            if key in keys.PLAY_LATER:
                self.errors.add(
                    f"not supported yet: {key}",
                    where=self.at(key, name=True),
                    hint=instead.of_key(key),
                    ref="not-supported",
                )
            elif key not in keys.PLAY and not str(key).startswith("x-"):
                self.errors.add(
                    f"cannot use the key {key!r} in a play",
                    where=self.at(key, name=True),
                    hint="a task goes into `tasks:` of a play"
                    if key in self.kinds
                    else did_you_mean(key, keys.PLAY),
                    ref="unknown-key",
                )

    def project(self, stem: str) -> str:
        name = self.data.get("project")
        if name is None:
            return re.sub(r"[^a-z0-9_.-]+", "-", stem.lower()).strip("-._") or "project"
        if not isinstance(name, str) or not _PROJECT.match(name):
            self.errors.add(
                f"cannot use {name!r} as a project: lower-case letters, digits, dots, dashes and underscores",
                where=self.at("project"),
                ref="project-name",
            )
        return str(name)

    def become_keys(self) -> None:
        check_become(self.data, self.where, self.errors)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.data.get(key, default)
        found = as_bool(value)
        if found is None:
            self.errors.add(
                f"cannot use {value!r} for {key}: it is true or false",
                where=self.at(key),
                ref="wrong-type",
            )
            return default
        return found

    def map(self, key: str) -> dict[str, Any]:
        value = self.data.get(key)
        if value is None:
            return {}
        if (
            isinstance(value, Seq)
            and key in ("vars", "environment")
            and all(isinstance(v, Map) for v in value)
        ):
            merged: dict[str, Any] = {}
            for item in value:
                merged.update(item)
            return merged
        if isinstance(value, Map):
            return value
        self.errors.add(
            f"cannot use {key}: it is a map of names to values",
            where=self.at(key),
            ref="wrong-type",
        )
        return {}

    def items(self, key: str) -> Sequence[Any]:
        value = self.data.get(key)
        if value is None:
            return []
        if isinstance(value, Seq):
            return value
        if key == "vars_files" and isinstance(value, str):
            return [value]
        self.errors.add(f"cannot use {key}: it is a list", where=self.at(key), ref="wrong-type")
        return []

    def serial(self) -> tuple[Any, ...]:
        value = self.data.get("serial")
        steps = tuple(value) if isinstance(value, Seq) else () if value is None else (value,)
        for step in steps:
            good = isinstance(step, int) and step > 0 and not isinstance(step, bool)
            if not good and not (
                isinstance(step, str) and re.fullmatch(r"\d+%?", step) and int(step.rstrip("%")) > 0
            ):
                self.errors.add(
                    f"cannot use {step!r} for serial: a number of hosts or a percentage such as 25%",
                    where=self.at("serial"),
                    ref="wrong-type",
                )
                return ()
        return steps

    def connection(self) -> dict[str, Any]:
        names = {
            "remote_user": "ansible_user",
            "port": "ansible_port",
            "connection": "ansible_connection",
        }
        return {names[key]: self.data[key] for key in names if self.data.get(key) is not None}

    def tasks(self, section: str) -> list[Task]:
        out = []
        items = self.items(section)
        for index, item in enumerate(items):
            where = self.at(section, index)
            if not isinstance(item, Map):
                self.errors.add("cannot use this task: it is no map", where=where, ref="wrong-type")
                continue
            task = parse_task(item, where, section, self.kinds, self.errors)
            if task is not None:
                out.append(task)
        return out

    def sections(self) -> dict[str, dict[str, Any]]:
        out: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for key in (*SECTIONS, *_ALIASES):
            section = _ALIASES.get(key, key)
            for name, body in self.map(key).items():
                if name in out[section]:
                    self.errors.add(
                        f"cannot declare the container {name} twice",
                        where=self.at(key, name),
                        ref="declared-twice",
                    )
                out[section][name] = body
        return out


def check_become(data: Map, where: Place, errors: Collector) -> None:
    """Only root by sudo for now."""
    user = data.get("become_user")
    if user not in (None, "root"):
        errors.add(
            f"not supported yet: become_user {user}",
            where=where.key(data, "become_user"),
            ref="not-supported",
        )
    method = data.get("become_method")
    if method not in (None, "sudo", "ansible.builtin.sudo"):
        errors.add(
            f"not supported yet: become_method {method}",
            where=where.key(data, "become_method"),
            ref="not-supported",
        )


def as_bool(value: Any) -> bool | None:
    """A boolean as people write it in playbooks (`yes` is a string in YAML 1.2), or None."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("yes", "true", "on"):
        return True
    if isinstance(value, str) and value.lower() in ("no", "false", "off"):
        return False
    return None
