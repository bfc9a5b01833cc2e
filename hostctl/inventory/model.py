"""Runs on the controller: hosts, groups and the order in which their variables win."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..yaml import Map
from .files import folder_variables
from .patterns import select


@dataclass
class Group:
    """One group. `children` and `hosts` are names, in the order of the inventory."""

    name: str
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    vars: dict[str, Any] = field(default_factory=dict)
    depth: int = 0
    priority: int = 1

    def take_priority(self) -> None:
        """`ansible_group_priority`, no variable: among groups of one depth the higher wins."""
        if "ansible_group_priority" in self.vars:
            given = self.vars["ansible_group_priority"]
            self.priority = int(given) if str(given).isdigit() else 1
            self.vars = {k: v for k, v in self.vars.items() if k != "ansible_group_priority"}


@dataclass
class InventoryHost:
    """One host as the inventory names it. `vars` are those written at the host itself."""

    name: str
    vars: dict[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def short(self) -> str:
        return self.name.split(".")[0]


class Inventory:
    """All hosts of a run.

    Attributes:
        hosts: by name, in the order of the inventory.
        groups: by name; `all` and `ungrouped` are always there.
        implicit: `localhost`, where a play names it and the inventory does not; in no group, not in `all`.
        folders: where `group_vars/` and `host_vars/` of the inventory lie, and its files.
    """

    def __init__(self, files: list[Path] | None = None) -> None:
        self.hosts: dict[str, InventoryHost] = {}
        self.implicit: dict[str, InventoryHost] = {}
        self.groups: dict[str, Group] = {"all": Group("all"), "ungrouped": Group("ungrouped")}
        self.groups["all"].children.append("ungrouped")
        self.groups["ungrouped"].parents.append("all")
        self.files = list(files or [])
        self.folders: list[Path] = []
        for file in self.files:
            folder = file if file.is_dir() else file.parent
            if folder not in self.folders:
                self.folders.append(folder)
        self._layers: dict[tuple[str, Path | None], list[tuple[str, dict[str, Any]]]] = {}
        self._chains: dict[str, list[Group]] = {}
        self._group_hosts: dict[str, list[str]] = {}

    @classmethod
    def local(cls) -> Inventory:
        """This machine alone, without SSH: what there is when no inventory is given."""
        inventory = cls()
        inventory.add_host("localhost", "ungrouped").vars = {"ansible_connection": "local"}
        return inventory

    def add_host(self, name: str, group: str) -> InventoryHost:
        host = self.hosts.setdefault(name, InventoryHost(name))
        if group != "all" and name not in self.groups[group].hosts:
            self.groups[group].hosts.append(name)
        return host

    def add_group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))

    def add_child(self, parent: str, child: str) -> None:
        if child not in self.groups[parent].children:
            self.groups[parent].children.append(child)
            self.groups[child].parents.append(parent)

    def settle(self) -> None:
        """Hang loose groups below `all`, loose hosts into `ungrouped`, and compute depths."""
        grouped: set[str] = set()
        for name, group in self.groups.items():
            if name not in ("all", "ungrouped"):
                grouped.update(group.hosts)
                if not group.parents:
                    self.add_child("all", name)
        loose = self.groups["ungrouped"]
        loose.hosts = [name for name in self.hosts if name not in grouped]
        for group in self.groups.values():
            group.depth = 0
            group.take_priority()
        self._deepen("all", 0)
        self._chains.clear()
        self._group_hosts.clear()
        self._layers.clear()

    def _deepen(self, name: str, depth: int) -> None:
        group = self.groups[name]
        if depth and group.depth >= depth:
            return
        group.depth = depth
        for child in group.children:
            self._deepen(child, depth + 1)

    def members(self, name: str) -> list[str]:
        """Names of all hosts in a group and below, in the order of the inventory."""
        if name == "all":
            return list(self.hosts)
        found: set[str] = set()
        for group in self._below(name):
            found.update(group.hosts)
        return [host for host in self.hosts if host in found]

    def _below(self, name: str) -> Iterator[Group]:
        seen, todo = {name}, [name]
        while todo:
            group = self.groups[todo.pop()]
            yield group
            for child in group.children:
                if child not in seen:
                    seen.add(child)
                    todo.append(child)

    def chain(self, host: str) -> list[Group]:
        """The groups of a host, least binding first: `all`, by depth, priority, name."""
        if host not in self._chains:
            found: dict[str, Group] = {"all": self.groups["all"]}
            todo = [name for name, group in self.groups.items() if host in group.hosts]
            while todo:
                name = todo.pop()
                if name not in found:
                    found[name] = self.groups[name]
                    todo.extend(self.groups[name].parents)
            self._chains[host] = sorted(found.values(), key=lambda g: (g.depth, g.priority, g.name))
        return self._chains[host]

    def group_names(self, host: str) -> list[str]:
        """`group_names` of a host: all its groups but `all`, sorted."""
        return sorted(group.name for group in self.chain(host) if group.name != "all")

    def select(self, pattern: str, within: str = "") -> list[InventoryHost]:
        """The hosts that a pattern names, in the order of the inventory.

        Args:
            pattern: Ansible's: names, groups, `*`, `:` or `,`, `&`, `!`, `~regex`, `[n]`.
            within: what the pattern is, for the error (`hosts` or `--limit`).
        Raises:
            HostctlError: a name that is neither host nor group; the nearest one is in the hint.
        """
        return [self.host(name) for name in select(pattern, self, within)]

    def host(self, name: str) -> InventoryHost:
        """The host of that name. Raises KeyError."""
        return self.hosts[name] if name in self.hosts else self.implicit[name]

    def layers(self, host: str, beside: Path | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Where a host's variables come from, least binding first: (source, variables)."""
        key = (host, beside)
        if key not in self._layers:
            self._layers[key] = self._find_layers(host, beside)
        return self._layers[key]

    def _find_layers(self, host: str, beside: Path | None) -> list[tuple[str, dict[str, Any]]]:
        chain = self.chain(host)
        book = [beside] if beside is not None and beside not in self.folders else []
        named = [group.name for group in chain if group.name != "all"]
        out = [(f"group {group.name}", group.vars) for group in chain]
        for folders in (self.folders, book):
            out += folder_variables(folders, "group_vars", ["all"])
        for folders in (self.folders, book):
            out += folder_variables(folders, "group_vars", named)
        out.append((f"host {host}", self.host(host).vars))
        for folders in (self.folders, book):
            out += folder_variables(folders, "host_vars", [host])
        return [(source, variables) for source, variables in out if variables]

    def variables(self, host: str | InventoryHost, beside: Path | None = None) -> dict[str, Any]:
        """A host's variables as written (templates not rendered), without the magic ones.

        Args:
            host: its name.
            beside: the playbook's folder, whose `group_vars/` and `host_vars/` count too.
        """
        name = host.name if isinstance(host, InventoryHost) else host
        merged: dict[str, Any] = {}
        for _, variables in self.layers(name, beside):
            merged.update(variables)
        return merged

    @property
    def _members(self) -> dict[str, list[str]]:
        if not self._group_hosts:
            self._group_hosts = {name: self.members(name) for name in self.groups}
        return self._group_hosts

    def magic(self, host: str) -> dict[str, Any]:
        """The variables that Ansible sets by itself and that only depend on the inventory."""
        out: dict[str, Any] = {
            "inventory_hostname": host,
            "inventory_hostname_short": self.host(host).short,
            "group_names": self.group_names(host),
            "groups": self._members,
        }
        if self.files:
            out["inventory_file"] = os.path.abspath(self.files[0])
            out["inventory_dir"] = os.path.abspath(self.folders[0])
        return out

    def as_json(self) -> dict[str, Any]:
        """The whole inventory as `ansible-inventory --list` prints it."""
        hostvars = {name: plain(found) for name in self.hosts if (found := self.variables(name))}
        out: dict[str, Any] = {"_meta": {"hostvars": hostvars}}
        for name, group in self.groups.items():
            entry: dict[str, Any] = {}
            if group.children:
                entry["children"] = list(group.children)
            if group.hosts:
                entry["hosts"] = list(group.hosts)
            if entry:
                out[name] = entry
        return out


def inventory_json(inventory: Inventory) -> dict[str, Any]:
    """The inventory as `ansible-inventory --list` prints it."""
    return inventory.as_json()


def plain(value: Any) -> Any:
    """A YAML value as plain JSON types."""
    if isinstance(value, (dict, Map)):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
