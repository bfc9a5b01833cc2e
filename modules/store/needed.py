"""Runs on the managed host: which images something here needs: containers, releases to go back to, projects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..agent.files import read_json
from ..agent.generations import Generations
from ..contract.reference import canonical_name
from .policy import policy
from .store import Image, Store


@dataclass
class Needed:
    """Image ids (hex) and who needs them.

    Attributes:
        containers: image id -> containers that were made from it.
        releases: image id -> services (`project/service`) that may go back to it; the present one included.
        names: canonical names that a project declares now.
    """

    containers: dict[str, list[str]] = field(default_factory=dict)
    releases: dict[str, list[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    @property
    def ids(self) -> set[str]:
        """All image ids that must stay, with or without a name."""
        return {*self.containers, *self.releases}

    def needs(self, name: str, image_id: str) -> bool:
        """Whether an image, by one of its names, is somebody's."""
        return name in self.names or image_id in self.containers or image_id in self.releases


def needed(data: str) -> Needed:
    """What is needed on the host with this data folder.

    Raises:
        HostctlError: `damaged-record`: nothing can be removed as long as it is not known what is needed.
    """
    found = Needed()
    for name, record in containers(data):
        image_id = str(record.get("image") or "")
        if image_id:
            found.containers.setdefault(image_id, []).append(name)
    most = policy(data).releases if os.path.isdir(data) else 0
    for project in _folders(os.path.join(data, "projects")):
        _releases(found, data, project, most)
    return found


def containers(data: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and records (`spec.json`) of all containers, stopped ones too."""
    for name in _folders(os.path.join(data, "containers")):
        record = read_json(os.path.join(data, "containers", name, "spec.json"))
        if isinstance(record, dict):
            yield name, record


def users(data: str, name: str, image_id: str, but: str) -> tuple[str, ...]:
    """Containers of other projects than `but` that were made from the image under this name, sorted.

    What was made from it under another name loses nothing when this one goes.
    """
    full = canonical_name(name)
    return tuple(
        sorted(
            container
            for container, record in containers(data)
            if record.get("image") == image_id
            and record.get("project") != but
            and canonical_name(str((record.get("spec") or {}).get("image") or name)) == full
        )
    )


def further_names(data: str, project: str, name: str, image: Image) -> tuple[str, ...]:
    """Names that the project's build of `name` gave besides (`tags`), still its own, and declared by nobody."""
    generations = Generations(os.path.join(data, "projects", project))
    stored = (generations.read(number) or {} for number in generations.numbers())
    given = {
        canonical_name(tag)
        for one in stored
        for resource in (one.get("document") or {}).get("resources", ())
        if resource.get("kind") == "image" and (resource.get("spec") or {}).get("name") == name
        for tag in (resource["spec"].get("build") or {}).get("tags", ())
    }
    if not given:
        return ()
    store, declared = Store(data), needed(data).names
    there = {tag: store.image(tag) for tag in sorted(given - declared)}
    return tuple(tag for tag, one in there.items() if one and one.source == image.source)


def _releases(found: Needed, data: str, project: str, most: int) -> None:
    """The newest images of each service, as the generations tell; those of the newest one in any case."""
    generations = Generations(os.path.join(data, "projects", project))
    kept: dict[str, list[str]] = {}
    for age, number in enumerate(reversed(generations.numbers())):
        stored = generations.read(number) or {}
        images: dict[str, str] = stored.get("images") or {}
        if age == 0:
            found.names |= images.keys()
            for name, image_id in images.items():
                _add(found.releases, image_id, f"{project}/{name}")
        for service, name in _services(stored):
            ids = kept.setdefault(service, [])
            image_id = images.get(canonical_name(name), "")
            if image_id and image_id not in ids and len(ids) < most:
                ids.append(image_id)
                _add(found.releases, image_id, f"{project}/{service}")


def _services(stored: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Service and image of each container of a generation."""
    for resource in (stored.get("document") or {}).get("resources", ()):
        spec = resource.get("spec") or {}
        if resource.get("kind") == "container" and isinstance(spec.get("image"), str):
            yield str(spec.get("service") or spec.get("name")), spec["image"]


def _add(where: dict[str, list[str]], image_id: str, who: str) -> None:
    names = where.setdefault(image_id, [])
    if who not in names:
        names.append(who)


def _folders(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
