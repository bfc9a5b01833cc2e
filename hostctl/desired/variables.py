"""Runs on the controller: all variables of one host in one play, in Ansible's order of precedence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..inventory import Inventory
from ..template import Engine, Scope
from ..template.scope import MISSING, HostVars
from ..yaml.values import placed

PLACED = ("hostctl_trust",)
"""Variables whose errors and entries are shown with their places."""


@dataclass
class HostState:
    """What is learnt about a host during a run; it outlives the play.

    Attributes:
        facts: as Ansible names them, `ansible_` included; None until the host said hello.
        learnt: registered results and set_fact variables.
        pending: names that will be learnt.
        secrets: names of what `no_log` tasks taught.
    """

    facts: dict[str, Any] | None = None
    learnt: dict[str, Any] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)

    def restart(self) -> None:
        """Forget what the trial before the run set."""
        self.learnt.clear()
        self.pending.clear()
        self.secrets.clear()

    def take_facts(self, facts: Mapping[str, Any]) -> None:
        """Facts without the `ansible_` prefix, as the agent sends them."""
        self.facts = {f"ansible_{name}": value for name, value in facts.items()}
        self.facts["ansible_facts"] = dict(facts)


def scope_for(
    name: str,
    inventory: Inventory,
    engine: Engine,
    state: HostState,
    *,
    states: Mapping[str, HostState] | None = None,
    extra: Mapping[str, Any] | None = None,
    files: Sequence[Mapping[str, Any]] = (),
    play: Mapping[str, Any] | None = None,
    magic: Mapping[str, Any] | None = None,
    touched: set[str] | None = None,
) -> Scope:
    """The scope of a host. Layers, most binding first: extra, learnt, (task), vars_files, play, facts, inventory."""
    fixed = {
        **inventory.magic(name),
        "playbook_dir": os.path.abspath(engine.folder),
        **(magic or {}),
    }
    others: dict[str, Scope] = {}
    touched = touched if touched is not None else set()

    def other(host: str) -> Scope:
        if host not in others:
            known = (states or {}).get(host) or HostState()
            others[host] = scope_for(host, inventory, engine, known, extra=extra, touched=touched)
        return others[host]

    fixed["hostvars"] = HostVars(inventory.hosts, other)
    layers: list[Mapping[str, Any]] = [fixed, extra or {}, state.learnt]
    below = [*reversed(files), play or {}, *([state.facts] if state.facts is not None else [])]
    found = [variables for _, variables in reversed(inventory.layers(name, engine.folder))]
    return Scope(
        [*layers, *below, *found],
        engine.value,
        slot=len(layers),
        pending=state.pending,
        facts_pending=state.facts is None,
        secrets=state.secrets,
        touched=touched,
    )


def connection_variables(
    name: str,
    inventory: Inventory,
    engine: Engine,
    scope: Scope | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The rendered variables that say how to reach a host: `ansible_*` and `hostctl_*`."""
    scope = scope or scope_for(name, inventory, engine, HostState(facts={}), extra=extra)
    out: dict[str, Any] = {}
    for key in sorted(scope.names()):
        if key.startswith(("ansible_", "hostctl_")) and key not in (
            "ansible_facts",
            "ansible_play_hosts",
        ):
            value = scope.get(key)
            if value is not MISSING:
                raw = next((layer[key] for layer in scope.layers if key in layer), None)
                out[key] = placed(value, raw) if key in PLACED else value
    return out
