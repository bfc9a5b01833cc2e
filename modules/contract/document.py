"""Runs in both worlds: the document, everything one host should be, in canonical JSON.

A run sends one document per host and project; what has to wait for a registered result or a fact
follows in `tasks` frames with more resources. Order matters: a resource needs what `needs` names.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from .spec import decode, encode

VERSION = 1


@dataclass(frozen=True)
class Resource:
    """One thing that should be so on the host.

    Attributes:
        id: `KIND.KEY`, unique in the document: `file./etc/motd`, `container.shop-web-1`.
        kind: the module that handles it (`modules/KIND.py`).
        spec: the kind's `Spec`, as `contract.spec.encode` wrote it.
        needs: ids that must be done before this one.
        optional: those of `needs` whose failure does not keep this one from being done.
        name: the title that people gave it (a task's `name`), or the id.
        where: `file:line:column` of the declaration.
        section: `pre_tasks`, `tasks`, `graph` or `post_tasks`; handlers run after each section.
        notify: names of handlers to run if this changed.
        register: variable that takes the result (the agent sends a `result` frame).
        verdict: the controller decides changed and failed from the result (`changed_when`, `failed_when`).
        skip: why it is not to be done (`when` was false); it is reported as skipped.
        ignore_errors: a failure is reported and does not stop what comes after.
        no_log: values of this resource are never shown nor stored.
        maybe: what decides about it is unknown until apply (plan mode): shown as "may change".
    """

    id: str
    kind: str
    spec: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    name: str = ""
    where: str = ""
    section: str = "graph"
    notify: tuple[str, ...] = ()
    register: str = ""
    verdict: bool = False
    skip: str = ""
    ignore_errors: bool = False
    no_log: bool = False
    maybe: bool = False


@dataclass(frozen=True)
class Document:
    """What one host should be for one project.

    Attributes:
        project: the identity that owns the resources in the host's ledger.
        source: where it was declared, for people (`user@machine:/path/playbook.yml`).
        resources: in order of declaration.
        handlers: in definition order; `id` is `handler.NAME`, run once per section if notified.
        content: size in bytes of each blob that the resources refer to, by sha256 hex digest.
        more: `tasks` frames will follow.
        prune: remove what the project owned and no longer declares.
        partial: the run is limited by tags or targets, or more of it follows: it merges, and makes no orphans.
        also: ids that documents before this one in the same run declared for the same project and host:
            together they are the whole.
    """

    project: str
    source: str = ""
    resources: tuple[Resource, ...] = ()
    handlers: tuple[Resource, ...] = ()
    content: dict[str, int] = field(default_factory=dict)
    more: bool = False
    prune: bool = False
    partial: bool = False
    also: tuple[str, ...] = ()
    version: int = VERSION


def document_to_json(document: Document) -> dict[str, Any]:
    """The document as a JSON object (fields at their default left out, `version` always there)."""
    data: dict[str, Any] = encode(document)
    data["version"] = document.version
    return data


def document_from_json(data: dict[str, Any]) -> Document:
    """The inverse of `document_to_json`. A resource's `spec` stays JSON until its kind is loaded."""
    known = {**data}
    known["resources"] = tuple(resource_from_json(item) for item in data.get("resources", ()))
    known["also"] = tuple(data.get("also", ()))
    known["handlers"] = tuple(resource_from_json(item) for item in data.get("handlers", ()))
    return Document(**known)


def resource_from_json(data: dict[str, Any]) -> Resource:
    """One resource from JSON; `spec` is kept as it is."""
    spec = data.get("spec", {})
    resource = decode(Resource, {key: value for key, value in data.items() if key != "spec"})
    object.__setattr__(resource, "spec", spec)
    return resource


def canonical(data: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8. Equal values give equal bytes."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(data: bytes) -> str:
    """sha256 of the bytes, as 64 hex digits: the name of a blob everywhere in hostctl."""
    return hashlib.sha256(data).hexdigest()
