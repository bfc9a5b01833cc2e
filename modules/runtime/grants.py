"""Runs on the managed host, in the agent: which secrets and configs a container gets, and whether they are so.

A container remembers the mark of each value that it was made with (`agent/values.py`): another mark is
another value, and says nothing about it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ..agent import values
from ..agent.files import read_json
from ..agent.host import Host, Paths
from ..contract.change import Action, Change, Reason
from ..contract.errors import CannotApply
from .sources import heritage

if TYPE_CHECKING:
    from ..container import Observed, Spec
    from ..contract.storage import FileGrant


def of(spec: Spec) -> list[tuple[str, FileGrant]]:
    """All grants of the container: (`secret` or `config`, grant)."""
    return [
        *(("secret", grant) for grant in spec.secrets),
        *(("config", grant) for grant in spec.configs),
    ]


def marks(spec: Spec, host: Host) -> dict[str, str]:
    """`KIND.NAME` -> the mark that the value has, or will have once this run has applied it; empty: none."""
    found = {}
    for kind, grant in of(spec):
        resource = f"{kind}.{grant.source}"
        seen = host.observations.get(resource)
        if seen is None:
            record = values.record(host.paths, kind, grant.source)
            found[resource] = str(record["mark"]) if record else ""
        else:
            found[resource] = seen.wanted
    return found


def volumes(spec: Spec, host: Host) -> dict[str, str]:
    """`volume.NAME` -> what it is, where it is no folder of hostctl's own, as it will be after this run."""
    found = {}
    for mount in spec.volumes:
        if mount.type == "volume" and mount.source:
            seen = host.observations.get(f"volume.{mount.source}")
            if seen is None:
                path = os.path.join(host.paths.volume(mount.source), "volume.json")
                options = (read_json(path) or {}).get("driver_opts") or {}
            else:
                options = seen.wanted_opts
            found[f"volume.{mount.source}"] = json.dumps(options, sort_keys=True) if options else ""
    return found


def shown(found: dict[str, str], project: str) -> dict[str, str]:
    """The same with names for people: `secret db_password`, without the project's own name."""
    out = {}
    for resource, mark in found.items():
        kind, _, name = resource.partition(".")
        out[f"{kind} {name.removeprefix(f'{project}_')}"] = mark
    return out


def observe(spec: Spec, found: dict[str, Any], host: Host) -> dict[str, Any]:
    """What a container has from secrets, configs, volumes and other containers, and will have after this run.

    Args:
        found: its spec.json.
    Returns:
        Fields of `container.Observed`.
    """
    now = {**marks(spec, host), **volumes(spec, host)}
    out: dict[str, Any] = {
        "files": (shown(found.get("files", {}), host.project), shown(now, host.project))
    }
    if spec.volumes_from:
        out["inherited"] = found.get("inherited", []), heritage(spec, host)
    return out


def diff(spec: Spec, observed: Observed) -> list[Change]:
    """Values and volumes that it was made with and that are others now; what they are is not shown."""
    changes = []
    before, after = observed.files
    for name in sorted(after):
        # One that is new to it is in the spec's own fields.
        plain = "" if name.startswith("volume ") else after[name]
        if before.get(name, plain) != after[name]:
            changes.append(Change(Action.REPLACE, name))
    had, gets = observed.inherited
    if had != gets and observed.spec.get("volumes_from") == list(spec.volumes_from):
        reason, certain = Reason.DEPENDENCY, gets is not None
        changes.append(Change(Action.REPLACE, "volumes_from", reason=reason, certain=certain))
    return changes


def annotation(spec: Spec, paths: Paths) -> dict[str, str]:
    """For config.json: where the values lie, and how the container sees them.

    Raises:
        CannotApply: there is no such secret or config, or its value was lost.
    """
    found = of(spec)
    if not found:
        return {}
    files = [
        {
            "name": f"{kind} {grant.source}",
            "source": _source(paths, kind, grant.source, spec.name),
            "target": grant.target,
            "uid": grant.uid,
            "gid": grant.gid,
            "mode": int(grant.mode, 8),
        }
        for kind, grant in found
    ]
    return {"hostctl.files": json.dumps(files, sort_keys=True)}


def ready(spec: Spec, paths: Paths) -> None:
    """Bring back what a reboot took, before the container starts.

    Raises:
        CannotApply: it cannot be brought back.
    """
    for kind, grant in of(spec):
        _source(paths, kind, grant.source, spec.name)


def _source(paths: Paths, kind: str, name: str, container: str) -> str:
    path = values.find(paths, kind, name)
    if path is not None:
        return path
    if values.record(paths, kind, name) is None:
        raise CannotApply(
            f"cannot give the {kind} {name} to {container}: there is no such {kind} on this host",
            hint=f"declare it under `{kind}s:`, or make it with a {kind} task before",
            ref=f"unknown-{kind}",
        )
    raise CannotApply(
        f"cannot start {container}: the value of the {kind} {name} was lost with a reboot",
        hint="apply the playbook that declares it again",
        ref="secret-missing",
    )
