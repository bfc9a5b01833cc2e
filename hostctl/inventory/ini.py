"""Runs on the controller: Ansible's INI inventories: `[group]`, `[group:vars]`, `[group:children]`."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

from ..playbook.errors import Collector, did_you_mean
from .model import Inventory
from .ranges import expand, split_port

_SECTION = re.compile(r"\[([^:\]]+)(?::(\w+))?\]\s*(?:[#;].*)?\Z")


def read_ini(file: str, text: str, inventory: Inventory, errors: Collector) -> None:
    """Add what an INI inventory says; its errors are collected with their lines."""
    group, part = "ungrouped", "hosts"
    children: list[tuple[str, str, str]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        where = f"{file}:{number}:{len(raw) - len(raw.lstrip()) + 1}"
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and split_port(line.split()[0])[1] is None:
            match = _SECTION.match(line)
            if not match or match[2] not in (None, "vars", "children", "hosts"):
                known = ("vars", "children", "hosts")
                hint = did_you_mean(match[2], known) if match else "write it as [group]"
                errors.add(
                    f"cannot use the section {line}",
                    where=where,
                    hint=hint,
                    ref="inventory-section",
                )
                group, part = "ungrouped", "nothing"
                continue
            group, part = match[1].strip(), match[2] or "hosts"
            inventory.add_group(group)
        elif part == "hosts":
            _host(line, group, inventory, errors, where)
        elif part == "children":
            children.append((group, line.split()[0], where))
        elif part == "vars":
            name, sign, value = line.partition("=")
            if not sign:
                errors.add(
                    "cannot read the variable: write name=value",
                    where=where,
                    ref="inventory-variable",
                )
            else:
                inventory.groups[group].vars[name.strip()] = literal(value.strip())
    for parent, child, where in children:
        if child not in inventory.groups:
            errors.add(
                f"cannot find the group {child}, a child of {parent}",
                where=where,
                hint=did_you_mean(child, inventory.groups),
                ref="unknown-group",
            )
        elif parent == child or parent in (one.name for one in inventory._below(child)):
            errors.add(
                f"cannot put the group {child} below {parent}: that is a loop",
                where=where,
                ref="group-loop",
            )
        else:
            inventory.add_child(parent, child)


def _host(line: str, group: str, inventory: Inventory, errors: Collector, where: str) -> None:
    try:
        words = shlex.split(line, comments=True)
        written, port = split_port(words[0])
        names = expand(written)
    except ValueError as error:
        errors.add(f"cannot read the host: {error}", where=where, ref="inventory-host")
        return
    variables: dict[str, Any] = {} if port is None else {"ansible_port": port}
    for word in words[1:]:
        name, sign, value = word.partition("=")
        if not sign:
            errors.add(
                f"cannot read {word!r}: after the host come name=value pairs",
                where=where,
                ref="inventory-variable",
            )
            return
        variables[name] = literal(value)
    for name in names:
        host = inventory.add_host(name, group)
        host.where = host.where or where
        host.vars = {**host.vars, **variables}


def literal(text: str) -> Any:
    """A value as Ansible reads it from INI: a Python literal where it is one, a string otherwise."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, (tuple, set)):
        return list(value)
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else text
