"""Runs on the controller: what a service gets of secrets, configs and other containers, by full names."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..playbook.errors import Collector
from ..yaml import Place
from .draft import Draft

if TYPE_CHECKING:
    from .services import Lowering


def given(lowering: Lowering) -> dict[str, tuple[Any, ...]] | None:
    """The fields `secrets`, `configs` and `volumes_from`; None with the reasons in the errors."""
    secrets, configs = _granted(lowering, "secret"), _granted(lowering, "config")
    givers = _givers(lowering)
    if secrets is None or configs is None or givers is None:
        return None
    return {"secrets": secrets, "configs": configs, "volumes_from": givers}


def _granted(lowering: Lowering, kind: str) -> tuple[Any, ...] | None:
    """The service's secrets or configs; None with the reasons in its errors."""
    out = []
    service = lowering.service
    known: dict[str, str] = getattr(lowering.names, f"{kind}s")
    for index, grant in enumerate(getattr(service.spec, f"{kind}s")):
        if grant.source not in known and not lowering.literal:
            lowering.unknown(kind, grant.source, known, service.at(f"{kind}s", index))
            return None
        out.append(replace(grant, source=known.get(grant.source, grant.source)))
    return tuple(out)


def _givers(lowering: Lowering) -> tuple[str, ...] | None:
    """`volumes_from`: of a service with replicas its first container, as in Compose."""
    out = []
    service = lowering.service
    for index, item in enumerate(service.spec.volumes_from):
        place = service.at("volumes_from", index)
        literal = item.startswith("container:") or lowering.literal
        key, sign, access = item.removeprefix("container:").partition(":")
        if not literal and key not in lowering.by_key:
            if key not in lowering.broken:
                lowering.unknown("container", key, lowering.by_key, place)
            return None
        if key == service.key and not literal:
            lowering.errors.add(
                f"cannot take the volumes of {key}: that is the container itself",
                where=place,
                ref="dependency-cycle",
            )
            return None
        name = key if literal else lowering.by_key[key].names(lowering.project)[0]
        out.append(name + sign + access)
    return tuple(out)


def bind_source(source: str, place: Place, folder: str, errors: Collector) -> str | None:
    """A bind's source as a path of the host; None with the reason in `errors`."""
    if source == "~" or source.startswith("~/"):
        source = "/root" + source[1:]
    if not source.startswith("/"):
        if not folder:
            errors.add(
                f"cannot bind {source}: a relative path means this machine, and the host is another one",
                where=place,
                hint="copy the files with a copy task and bind their absolute path on the host",
                ref="relative-bind",
            )
            return None
        source = os.path.join(folder, source)
    return os.path.normpath(source)


def check_memory_volumes(drafts: list[Draft], errors: Collector) -> None:
    """A volume whose file system is a tmpfs begins with each container anew, so that two would not share it."""
    memory = {
        draft.key
        for draft in drafts
        if draft.kind == "volume"
        and (draft.resource.spec.get("driver_opts") or {}).get("type") in ("tmpfs", "ramfs")
    }
    for name in sorted(memory):
        users = [draft for draft in drafts if draft.kind == "container" and _mounts(draft, name)]
        if len(users) > 1:
            errors.add(
                f"cannot share the volume {name} between {users[0].key} and {users[1].key}: "
                "each container would have a tmpfs of its own",
                where=users[1].resource.where,
                hint="share a folder below /dev/shm: {type: none, o: bind, device: /dev/shm/NAME}",
                ref="volume-not-shared",
            )


def _mounts(draft: Draft, volume: str) -> bool:
    mounts = draft.resource.spec.get("volumes") or ()
    return any(
        mount.get("source") == volume and mount.get("type", "volume") == "volume"
        for mount in mounts
    )
