"""Runs on the managed host: the documents that were applied, DATA/projects/NAME/generations/N.json."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from typing import Any, Callable

from ..contract.document import Document, canonical, document_to_json
from ..contract.reference import canonical_name
from .files import private_folder, read_json, write_json
from .ledger import Redactor

KEPT = 10
_DIGEST = re.compile(rb"[0-9a-f]{64}")


class Generations:
    """The generations of one project; the last one is what the host should be."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, "generations")

    def numbers(self) -> list[int]:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return sorted(int(name[:-5]) for name in names if re.fullmatch(r"\d+\.json", name))

    def current(self) -> int:
        """The last number, 0 where there is none."""
        return max(self.numbers(), default=0)

    def read(self, number: int) -> dict[str, Any] | None:
        """One generation as it was stored; None where it is not kept any more."""
        found: dict[str, Any] | None = read_json(self._file(number))
        return found

    def record(
        self,
        document: Document,
        redactor: Redactor,
        changed: bool,
        images: Callable[[], dict[str, str]],
    ) -> tuple[int, bool]:
        """Store what was applied, unless nothing changed and it is what the last generation says.

        Args:
            images: the host's images, canonical name -> id: which ones the names of the document mean.
        Returns:
            The current number, and whether it is new.
        """
        numbers = self.numbers()
        last = read_json(self._file(numbers[-1])) if numbers else None
        data = _plain(document, redactor)
        if last is not None and (document.partial or document.also):
            data = _merge(last["document"], data, None if document.partial else set(document.also))
        data = _without_secret_content(data)
        if last is not None and not changed and canonical(last["document"]) == canonical(data):
            return numbers[-1], False
        number = (numbers[-1] if numbers else 0) + 1
        private_folder(self._folder)
        stored = {
            "version": 1,
            "generation": number,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "source": document.source,
            "images": _images(data, images),
            "document": data,
        }
        write_json(self._file(number), stored)
        for old in numbers[: max(len(numbers) + 1 - KEPT, 0)]:
            os.unlink(self._file(old))
        return number, True

    def _file(self, number: int) -> str:
        return os.path.join(self._folder, f"{number}.json")


def _plain(document: Document, redactor: Redactor) -> dict[str, Any]:
    """The document without what belongs to one run (source, limits) and without secrets."""
    stripped = replace(
        document,
        source="",
        more=False,
        prune=False,
        partial=False,
        also=(),
        resources=tuple(replace(r, spec=redactor.spec(r)) for r in document.resources),
        handlers=tuple(replace(r, spec=redactor.spec(r)) for r in document.handlers),
    )
    return document_to_json(stripped)


def _merge(before: dict[str, Any], now: dict[str, Any], also: set[str] | None) -> dict[str, Any]:
    """A part of the whole replaces or follows what the last generation has.

    Args:
        also: of the last generation only these stay; None keeps all.
    """
    merged = {**before, **now, "content": {**before.get("content", {}), **now.get("content", {})}}
    for section in ("resources", "handlers"):
        here = {_name(section, item): item for item in now.get(section, ())}
        there = {_name(section, item): item for item in before.get(section, ())}
        both = {
            name: item
            for name, item in there.items()
            if also is None or item["id"] in also or name in here
        }
        both.update(here)
        merged.pop(section, None)
        if both:
            merged[section] = list(both.values())
    return merged


def _images(data: dict[str, Any], there: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Canonical name -> id of the images that a stored document has."""
    specs = [item["spec"] for item in data.get("resources", ()) if item.get("kind") == "image"]
    names = {canonical_name(str(spec.get("name"))) for spec in specs}
    return {name: image_id for name, image_id in there().items() if name in names} if names else {}


def _name(section: str, item: dict[str, Any]) -> Any:
    """Plays of one project may have different handlers of one name: both stay."""
    return item["id"] if section == "resources" else canonical(item)


def _without_secret_content(data: dict[str, Any]) -> dict[str, Any]:
    """Only content that the document still names: of `no_log` resources not even the digest is kept."""
    named = canonical({**data, "content": {}}).decode()
    content = {name: size for name, size in data.get("content", {}).items() if name in named}
    rest = {key: value for key, value in data.items() if key != "content"}
    return {**rest, "content": content} if content else rest


def referenced_digests(data_dir: str) -> set[str]:
    """Everything in any project's ledger and generations that looks like a digest: it is kept."""
    found: set[str] = set()
    for folder, _, names in os.walk(os.path.join(data_dir, "projects")):
        for name in names:
            with open(os.path.join(folder, name), "rb") as stream:
                found.update(match.decode() for match in _DIGEST.findall(stream.read()))
    return found
