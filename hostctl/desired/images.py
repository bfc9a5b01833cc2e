"""Runs on the controller: the `images:` section: names, sources, and the images nobody declared."""

from __future__ import annotations

from typing import Any

from ..playbook.errors import Collector
from ..template import Engine
from ..yaml import Place
from .content import Content
from .names import full_image


def image_data(
    name: str,
    body: Any,
    raw: Any,
    place: Place,
    engine: Engine,
    content: Content,
    errors: Collector,
) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """The fields of an image's spec from what is written under its name, and the digests of its archive."""
    if body is None:
        data: dict[str, Any] = {}
    elif isinstance(body, str):
        data = {"pull": body}
    elif isinstance(body, dict):
        data = {
            key: value for key, value in body.items() if value is not None or key == "bootstrap"
        }
    else:
        errors.add(f"cannot use the image {name}: it is no map", where=place, ref="wrong-type")
        return None
    sources = [key for key in ("pull", "bootstrap", "archive", "build") if key in data]
    if len(sources) > 1:
        errors.add(
            f"cannot use the image {name}: it has both {sources[0]} and {sources[1]}",
            where=place.key(raw, sources[1], name=True),
            ref="image-source",
        )
        return None
    if "bootstrap" in data and data["bootstrap"] is None:
        data["bootstrap"] = {}
    data["name"] = name
    if "on" in data and "build" not in data:
        errors.add(
            f"cannot use `on` for the image {name}: it is not built",
            where=place.key(raw, "on", name=True),
            hint="`on` names the host that an image with `build` is built on",
            ref="image-source",
        )
        return None
    if "archive" in data:
        names = _archive(
            str(data.pop("archive")), place.key(raw, "archive"), engine, content, errors
        )
        if names is None:
            return None
        data["content"] = names
        return data, tuple(dict.fromkeys(names.values()))
    if "build" in data:
        from .builds import build_data

        made = build_data(
            data["build"], raw["build"], place.key(raw, "build"), engine, content, errors
        )
        if made is None:
            return None
        data["build"], listed = made
        return data, listed
    if "bootstrap" not in data:
        where = place.key(raw, "pull") if isinstance(body, dict) and "pull" in body else place
        reference = _full(str(data.get("pull") or name), where, errors)
        if reference is None:
            return None
        # a key that is no full name stands for the image that it is short for
        data.pop("pull", None)
        if reference != name:
            data["pull"] = reference
    return data, ()


def _full(reference: str, place: Place, errors: Collector) -> str | None:
    try:
        return full_image(reference)
    except ValueError as error:
        errors.add(f"cannot use the image: {error}", where=place, ref="image-name")
        return None


def _archive(
    name: str, place: Place, engine: Engine, content: Content, errors: Collector
) -> dict[str, str] | None:
    path = engine.find(name, "files")
    if path is None:
        errors.add(f"cannot find the archive {name}", where=place, ref="file-missing")
        return None
    try:
        return content.archive(path)
    except (ValueError, OSError) as error:
        errors.add(f"cannot use {name} as an image: {error}", where=place, ref="image-archive")
        return None


def known_image(reference: str, declared: dict[str, str]) -> str | None:
    """The declared name that a container's `image` means: itself, or one that stands for the same image.

    Args:
        declared: name -> the full reference it stands for (itself for images that are made here).
    """
    if reference in declared:
        return reference
    try:
        full = full_image(reference)
    except ValueError:
        return None
    return next((name for name, one in declared.items() if full in (one, name)), None)


def full_reference(body: Any, name: str) -> str:
    """What an entry of `images:` stands for: the reference that it is pulled by, or its own name."""
    written = body if isinstance(body, str) else None
    if isinstance(body, dict):
        if "bootstrap" in body or "archive" in body or "build" in body:
            return name
        written = body.get("pull")
    try:
        return full_image(str(written or name))
    except ValueError:
        return name
