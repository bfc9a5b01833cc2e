"""Runs on the controller: inventories into one `Inventory`: YAML, INI, scripts, folders, and lists of hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError

from ..playbook.errors import Collector, did_you_mean
from ..yaml import Map, Place, load_file
from ..yaml.values import place_of
from .files import display
from .model import Inventory
from .ranges import expand, split_port

_KEYS = ("hosts", "children", "vars")
_IGNORED = (".cfg", ".ini~", ".orig", ".retry", ".pyc", ".bak", ".swp", ".md")


def load_inventory(paths: Sequence[Path | str]) -> Inventory:
    """Every `-i` merged into one inventory, later ones winning; none: this machine, without SSH.

    Raises:
        HostctlError: a file that is missing or no inventory; all errors of the files come at once.
    """
    if not paths:
        return Inventory.local()
    given = [Path(path) for path in paths]
    inventory = Inventory(given)
    errors = Collector()
    for path in given:
        _load_path(path, inventory, errors)
    errors.check()
    inventory.settle()
    return inventory


def _load_path(path: Path, inventory: Inventory, errors: Collector) -> None:
    if not path.exists() and "," in str(path):
        for written in filter(None, map(str.strip, str(path).split(","))):
            _read_host(written, None, "ungrouped", inventory, errors, Place(str(path), 1, 1))
        return
    if not path.exists():
        errors.add(
            f"cannot read the inventory {path}: there is no such file",
            where=str(path),
            hint="name another one with -i, or hosts (-i web1,web2,), "
            "or leave -i out to use this machine",
            ref="inventory-missing",
        )
        return
    if path.is_dir():
        for below in sorted(path.iterdir()):
            skip = below.name.startswith(".") or below.name.endswith(("~", *_IGNORED))
            if not skip and below.name not in ("group_vars", "host_vars"):
                _load_path(below, inventory, errors)
        return
    name = display(str(path))
    try:
        from .script import is_script, read_script

        if is_script(path):
            read_script(path, name, inventory)
            return
        if path.suffix in (".yml", ".yaml", ".json"):
            value = load_file(name, errors)
            if value is not None:
                _read_top(value, inventory, errors, name)
            return
        from .ini import read_ini

        read_ini(name, path.read_text(encoding="utf-8"), inventory, errors)
    except UnicodeDecodeError:
        errors.add("cannot read the inventory: not UTF-8", where=name, ref="inventory-encoding")
    except HostctlError as error:
        errors.take(error)


def _read_top(value: Any, inventory: Inventory, errors: Collector, name: str) -> None:
    if not isinstance(value, Map):
        errors.add(
            "cannot read the inventory: it is no map of groups",
            where=Place(name, 1, 1),
            hint="begin with `all:`, and below it `hosts:` or `children:`",
            ref="inventory-shape",
        )
        return
    place = place_of(value)
    for group, body in value.items():
        _read_group(str(group), body, inventory, errors, place.key(value, group))


def _read_group(
    name: str, body: Any, inventory: Inventory, errors: Collector, place: Place
) -> None:
    group = inventory.add_group(name)
    if body is None:
        return
    if not isinstance(body, Map):
        errors.add(
            f"cannot read the group {name}: it is no map",
            where=place,
            hint="a group has hosts, children and vars",
            ref="inventory-shape",
        )
        return
    for key in body:
        if key not in _KEYS:
            errors.add(
                f"cannot use {key!r} in the group {name}",
                where=place.key(body, key, name=True),
                hint=did_you_mean(key, _KEYS),
                ref="unknown-key",
            )
    for key in _KEYS:
        part = body.get(key)
        if part is None:
            continue
        below = place.key(body, key)
        if not isinstance(part, Map):
            errors.add(
                f"cannot read {key} of the group {name}: it is no map",
                where=below,
                hint="write each name followed by a colon" if key != "vars" else "",
                ref="inventory-shape",
            )
        elif key == "vars":
            group.vars = {**group.vars, **part} if group.vars else part
        elif key == "hosts":
            for host in part:
                _read_host(host, part[host], name, inventory, errors, below.key(part, host))
        else:
            _read_children(name, part, inventory, errors, below)


def _read_children(
    name: str, part: Map, inventory: Inventory, errors: Collector, place: Place
) -> None:
    for child, body in part.items():
        where = place.key(part, child, name=True)
        _read_group(str(child), body, inventory, errors, where)
        if str(child) == name or name in (one.name for one in inventory._below(str(child))):
            errors.add(
                f"cannot put the group {child} below {name}: that is a loop",
                where=where,
                ref="group-loop",
            )
        else:
            inventory.add_child(name, str(child))


def _read_host(
    written: Any, body: Any, group: str, inventory: Inventory, errors: Collector, place: Place
) -> None:
    name, port = split_port(str(written))
    try:
        names = expand(name)
    except ValueError as error:
        errors.add(f"cannot use the range: {error}", where=place, ref="host-range")
        return
    if body is not None and not isinstance(body, Map):
        errors.add(
            f"cannot read the host {written}: its variables are no map",
            where=place,
            ref="inventory-shape",
        )
        return
    for name in names:
        host = inventory.add_host(name, group)
        host.where = host.where or place.position
        if port is not None:
            host.vars = {**host.vars, "ansible_port": port}
        if body:
            host.vars = {**host.vars, **body} if host.vars else body
