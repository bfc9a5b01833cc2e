"""Runs on the controller: `build:` of a container: an image of its own, named as Compose names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..playbook.errors import Collector
from .names import full_image

if TYPE_CHECKING:
    from .graph import Entry, Names

_MOVED = ("build", "pull_policy", "platform")


def split_build(
    entry: Entry, project: str, names: Names, errors: Collector
) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
    """The container's body with `image` instead of `build`, and the body of that image.

    The image's is None where it is declared by another container in the same words. None in all: it cannot be.
    """
    body = dict(entry.body)
    name = str(body.get("image") or f"{project}-{entry.key}".lower())
    where = entry.place.key(entry.raw, "image" if body.get("image") else "build")
    try:
        full_image(name)
    except ValueError as error:
        errors.add(f"cannot use the image: {error}", where=where, ref="image-name")
        return None
    image = {"build": body["build"]}
    if body.get("pull_policy"):
        image["pull_policy"] = body["pull_policy"]
    if body.get("platform"):
        written = image["build"]
        written = {"context": written} if isinstance(written, str) else written
        if isinstance(written, dict):
            image["build"] = {"platforms": [body["platform"]], **written}
    left = {key: value for key, value in body.items() if key not in _MOVED}
    left["image"] = name
    if name not in names.images:
        names.built[name] = image
        return left, image
    if names.built.get(name) == image:
        return left, None
    other = "by another container" if name in names.built else "in images"
    errors.add(
        f"cannot build the image {name} here: it is declared {other}",
        where=where,
        hint="give one of them another name with `image:`, or leave `build:` out here",
        ref="image-source",
    )
    return None
