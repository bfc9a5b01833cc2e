"""Runs on the controller: a container that is a task: its names made full, what it needs made present before it.

It sees what the same play declares in its sections; any other name is taken as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hostctl_host.contract.document import Resource
from hostctl_host.contract.spec import encode

from ..playbook.errors import Collector
from ..playbook.kinds import Kinds
from ..playbook.model import Play, Task
from ..template import Engine, Scope
from .deploy import Deploy
from .draft import Draft
from .graph import Names, boot_draft, local_folder
from .images import full_reference
from .services import Lowered, Service, lower_alone


def lower_task(
    spec: Any,
    task: Task,
    play: Play,
    scope: Scope,
    engine: Engine,
    kinds: Kinds,
    errors: Collector,
    frame: Resource,
) -> tuple[Any, list[Draft]] | None:
    """The container's final spec, and what it needs that nobody declared: image, default network, boot.

    Args:
        frame: the task's resource, for what its implicit resources have in common with it.
    """
    if spec.deploy:
        errors.add(
            "not supported yet: deploy of a container that is a task",
            where=task.args_where.key(task.args, "deploy", name=True),
            hint="declare it in containers:",
            ref="not-supported",
        )
        return None
    names = _names(play, scope, engine)
    service = Service(spec.name, spec, Deploy(), spec.name, task.args, task.args_where)
    out = Lowered()
    made = lower_alone(service, play.project, names, local_folder(scope, engine), errors, out)
    if made is None:
        return None
    common = replace(frame, name="", notify=(), register="", verdict=False)
    implicit = [boot_draft(kinds, common)] if made.state != "absent" else []
    for kind, wanted in (("image", out.images), ("network", out.networks)):
        for name in wanted:
            if kind == "network" and name in names.networks.values():
                continue
            more = {"platform": out.platforms[name]} if kind == "image" else {}
            needed = encode(kinds.spec(kind)(name=name, **more))
            resource = replace(common, kind=kind, spec=needed)
            implicit.append(Draft(kind, name, resource, implicit=True))
    return made, implicit


def _names(play: Play, scope: Scope, engine: Engine) -> Names:
    names = Names()
    for key, body in play.sections.get("images", {}).items():
        name = str(engine.value(scope, key, play.place("images")))
        names.images[name] = full_reference(
            engine.value(scope, body, play.place("images", key)), name
        )
    sections = ("networks", "volumes", "secrets", "configs")
    for section, found in ((section, getattr(names, section)) for section in sections):
        for key, body in play.sections.get(section, {}).items():
            name = str(engine.value(scope, key, play.place(section)))
            given = engine.value(scope, body, play.place(section, key))
            given = given if isinstance(given, dict) else {}
            external = given.get("external") in (True, "true", "yes")
            found[name] = str(given.get("name") or (name if external else f"{play.project}_{name}"))
    return names
