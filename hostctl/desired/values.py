"""Runs on the controller: where the values of secrets and configs come from; here they become content.

A value is read once, and from then on known by its digest; messages name files and variables, never values.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..playbook.errors import Collector
from ..template import Engine
from ..yaml import Place
from .content import Content

if TYPE_CHECKING:
    from .graph import Entry

SIZE_LIMIT = {"secret": 500_000, "config": 1_000_000}
"""Bytes, as in Docker: what is bigger belongs in a volume or an image."""
_SOURCES = {"secret": ("file", "environment"), "config": ("file", "content", "environment")}


def section_value(
    kind: str,
    entry: Entry,
    project: str,
    engine: Engine,
    content: Content,
    errors: Collector,
    label: str,
) -> dict[str, Any] | None:
    """The fields of one entry of `secrets:` or `configs:`, with its full name; None with the reasons."""
    if not isinstance(entry.body, dict):
        errors.add(f"cannot use {label}: it is no map", where=entry.place, ref="wrong-type")
        return None
    data = {
        key: value
        for key, value in entry.body.items()
        if value is not None and not str(key).startswith("x-")
    }
    external = data.get("external") in (True, "true", "yes")
    data.setdefault("name", entry.key if external else f"{project}_{entry.key}")
    if kind == "config" and entry.secret:
        data["hidden"] = True
    return fill_value(kind, data, entry.raw, entry.place, engine, content, errors, label)


def fill_value(
    kind: str,
    data: dict[str, Any],
    raw: Any,
    place: Place,
    engine: Engine,
    content: Content,
    errors: Collector,
    label: str = "",
) -> dict[str, Any] | None:
    """The fields of a secret or config with `digest` in place of where it comes from; None with the reasons.

    Args:
        label: what it is called in messages (default: the kind).
    """
    what = label or kind
    if data.get("state") == "absent":
        return data
    if kind == "secret" and "content" in data:
        errors.add(
            "cannot use the key 'content' in secret: a secret has no place in a playbook",
            where=place.key(raw, "content", name=True),
            hint="use environment, the name of a variable, or file, a path that no repository has",
            ref="unknown-key",
        )
        return None
    given = [name for name in _SOURCES[kind] if data.get(name) is not None]
    external = data.get("external") in (True, "true", "yes")
    if external and given:
        errors.add(
            f"cannot use {what}: it is external, and its value is where it is already",
            where=place.key(raw, given[0], name=True),
            ref="value-source",
        )
        return None
    if external:
        return data
    if len(given) != 1:
        found = f"both {given[0]} and {given[1]}" if given else "no value"
        errors.add(
            f"cannot use {what}: it has {found}",
            where=place.key(raw, given[1], name=True) if given else place,
            hint=f"write one of {', '.join(_SOURCES[kind])}",
            ref="value-source",
        )
        return None
    made = {name: value for name, value in data.items() if name not in _SOURCES[kind]}
    where = place.key(raw, given[0])
    value = _read(kind, given[0], data[given[0]], where, engine, errors)
    if value is None:
        return None
    if len(value) > SIZE_LIMIT[kind]:
        errors.add(
            f"cannot use this {kind}: it is longer than {SIZE_LIMIT[kind]} bytes",
            where=where,
            hint="copy it with a copy task, and bind it",
            ref="value-too-long",
        )
        return None
    made["digest"] = content.add(value)
    return made


def _read(
    kind: str, source: str, given: Any, where: Place, engine: Engine, errors: Collector
) -> bytes | None:
    if isinstance(given, (dict, list)):
        errors.add(
            f"cannot use {source} of this {kind}: it is a text", where=where, ref="wrong-type"
        )
        return None
    if source == "content":
        return str(given).encode()
    if source == "environment":
        value = os.environb.get(str(given).encode())
        if value is None:
            errors.add(
                f"cannot read the {kind}: the environment variable {given} is not set",
                where=where,
                hint=f"export {given}=... before hostctl runs",
                ref="environment-missing",
            )
        return value
    path = engine.find(str(given), "files")
    if path is None:
        folders = " and ".join(os.fspath(folder) for folder in engine.search("files"))
        errors.add(
            f"cannot find {given}", where=where, hint=f"looked in {folders}", ref="file-missing"
        )
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        cause = (error.strerror or "").lower()
        errors.add(f"cannot read {given}: {cause}", where=where, ref="file-unreadable")
        return None
