"""Runs on the controller: inventories that are programs, called as Ansible calls them: `--list`, `--host NAME`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError

from .model import Inventory

DEADLINE = 120.0  # seconds for all calls of one script together
PARALLEL = 8

_PARTS = ("hosts", "vars", "children")


def is_script(path: Path) -> bool:
    """Whether the file is a program: it may be executed, and begins as programs do.

    Raises:
        HostctlError: it begins with `#!` and may not be executed.
    """
    with path.open("rb") as stream:
        start = stream.read(4)
    if start[:2] != b"#!" and start != b"\x7fELF":
        return False  # on some file systems every file may be executed
    if os.access(path, os.X_OK):
        return True
    if path.suffix in (".yml", ".yaml", ".json"):
        return False
    raise HostctlError(
        "cannot run the inventory script: it is not executable",
        where=str(path),
        hint=f"type: chmod +x {path}",
        ref="inventory-script",
    )


def read_script(path: Path, name: str, inventory: Inventory) -> None:
    """Run it and add what it says.

    Args:
        name: the path as messages show it.
    Raises:
        HostctlError: it fails, takes too long, or says something that is no inventory.
    """
    deadline = time.monotonic() + DEADLINE
    groups = _call(path, name, ["--list"], deadline)
    meta = groups.pop("_meta", None)
    known = meta.get("hostvars") if isinstance(meta, dict) else None
    if known is not None and not isinstance(known, dict):
        raise _shape(name, "_meta.hostvars is no map of hosts")
    children: list[tuple[str, str]] = []
    mine: list[str] = []
    for group, body in groups.items():
        mine += _read_group(name, group, body, inventory, children)
    for parent, child in children:
        if child == parent or parent in (one.name for one in inventory._below(child)):
            raise _shape(name, f"the group {child} below {parent} is a loop")
        inventory.add_child(parent, child)
    mine = list(dict.fromkeys(mine))
    if known is None:
        known = _ask_each(path, name, mine, deadline)
    for host in mine:
        variables = known.get(host) or {}
        if not isinstance(variables, dict):
            raise _shape(name, f"the variables of the host {host} are no map")
        entry = inventory.hosts[host]
        entry.where = entry.where or name
        entry.vars = {**entry.vars, **variables}


def _read_group(
    name: str, group: str, body: Any, inventory: Inventory, children: list[tuple[str, str]]
) -> list[str]:
    """Add a group: a map of hosts, vars and children, or a list of hosts; its hosts' names."""
    if isinstance(body, list):
        body = {"hosts": body}
    if not isinstance(body, dict):
        raise _shape(name, f"the group {group} is neither a map nor a list")
    if not any(part in body for part in _PARTS):
        body = {"hosts": [group], "vars": body}  # a host with its variables, as Ansible reads it
    made = inventory.add_group(group)
    for part, kind in (("hosts", list), ("vars", dict), ("children", list)):
        if not isinstance(body.get(part, kind()), kind):
            word = "list" if kind is list else "map"
            raise _shape(name, f"{part} of the group {group} is no {word}")
    hosts = [str(host) for host in body.get("hosts", ())]
    for host in hosts:
        inventory.add_host(host, group)
    made.vars = {**made.vars, **body.get("vars", {})}
    for child in map(str, body.get("children", ())):
        inventory.add_group(child)
        children.append((group, child))
    return hosts


def _ask_each(path: Path, name: str, hosts: list[str], deadline: float) -> dict[str, Any]:
    """Without `_meta` the script is asked for each host."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(host: str) -> Any:
        return _call(path, name, ["--host", host], deadline)

    with ThreadPoolExecutor(PARALLEL) as pool:
        return dict(zip(hosts, pool.map(ask, hosts), strict=True))


def _call(path: Path, name: str, arguments: list[str], deadline: float) -> dict[str, Any]:
    from ..fleet import process

    shown = " ".join([name, *arguments])
    try:
        done = process.run([str(path.absolute()), *arguments], deadline - time.monotonic())
    except TimeoutError as error:
        raise HostctlError(
            f"cannot read the inventory: `{shown}` gave no answer within {DEADLINE:.0f} s",
            where=name,
            hint="run it yourself to see what it waits for",
            ref="inventory-script",
        ) from error
    except OSError as error:
        raise HostctlError(
            f"cannot run the inventory script: {error.strerror}",
            where=name,
            hint="is the interpreter in its first line there?",
            ref="inventory-script",
        ) from error
    if done.code != 0:
        lines = done.errors.strip().splitlines()
        ending = f"exit code {done.code}" if done.code > 0 else f"killed by signal {-done.code}"
        raise HostctlError(
            f"cannot read the inventory: `{shown}` failed ({ending})"
            + (f": {lines[-1].strip()[:300]}" if lines else ""),
            where=name,
            hint="run it yourself to see all that it says",
            ref="inventory-script",
        )
    try:
        # nothing at all is what many scripts say of a host without variables
        value = json.loads(done.output) if done.output.strip() or "--list" in arguments else {}
    except ValueError as error:
        raise _shape(name, f"`{shown}` printed no JSON: {error}") from error
    if not isinstance(value, dict):
        raise _shape(name, f"`{shown}` printed no JSON object")
    return value


def _shape(name: str, what: str) -> HostctlError:
    return HostctlError(
        f"cannot read the inventory: {what}",
        where=name,
        hint='a script prints {"GROUP": {"hosts": [...], "vars": {...}, "children": [...]}, '
        '"_meta": {"hostvars": {...}}} for --list',
        ref="inventory-shape",
    )
