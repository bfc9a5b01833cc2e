"""Runs on the managed host: who owns what: DATA/projects/NAME/ledger.json.

An entry says how to put the resource back as it was before the project first touched it. Values of
`no_log` resources are kept as a keyed hash, made with a random key that never leaves the host.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, replace
from typing import Any

from ..contract.document import Resource, canonical
from ..contract.errors import HostctlError
from .files import private_folder, read_json, write_atomic, write_json
from .host import Paths

# What lies at a path is one thing, whichever of these declares it.
_PATH_KINDS = ("copy", "directory", "file", "template")
# Whoever comes first makes the key; steps run beside each other.
_key_lock = threading.Lock()


def identity(resource: str) -> str:
    """The same text for ids that mean the same thing on the host."""
    kind, _, key = resource.partition(".")
    return f"{one_kind(kind)}.{key}"


def one_kind(kind: str) -> str:
    """The same word for kinds whose ids mean the same things."""
    return "path" if kind in _PATH_KINDS else kind


@dataclass(frozen=True)
class Entry:
    """One owned resource.

    Attributes:
        kind: the kind that its undo is of (a file that is a template now may have begun as a copy).
        spec: as declared last (a keyed hash for `no_log`).
        undo: the spec that puts it back as it was found; None where there is nothing to put back.
        created: it did not exist before.
        source: where it was declared last, for people.
        needs: ids that it needs: removal goes the other way.
        order: position in the order of first contact.
        name: the title that people gave it.
        no_log: its values are not shown.
    """

    kind: str
    spec: dict[str, Any]
    undo: dict[str, Any] | None
    created: bool
    source: str = ""
    needs: tuple[str, ...] = ()
    order: int = 0
    name: str = ""
    no_log: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "needs": list(self.needs)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Entry:
        return cls(**{**data, "needs": tuple(data["needs"])})


class Ledger:
    """The entries of one project, and the owners of what other projects have."""

    def __init__(self, paths: Paths, project: str) -> None:
        if not project or "/" in project or project.startswith("."):
            raise HostctlError(
                f"cannot use {project!r} as a project's name",
                hint="use letters, digits, dashes and underscores",
                ref="project-name",
            )
        self.project = project
        self.folder = os.path.join(paths.data, "projects", project)
        self._path = os.path.join(self.folder, "ledger.json")
        self._paths = paths
        self._others: dict[str, dict[str, Entry]] | None = None
        self._owners: dict[str, dict[str, str]] | None = None
        self.entries = _load(self._path)
        self._saved = {name: entry.to_json() for name, entry in self.entries.items()}

    def next_order(self) -> int:
        return max((entry.order for entry in self.entries.values()), default=0) + 1

    def by_identity(self) -> dict[str, Entry]:
        """This project's entries by what they mean."""
        return {identity(name): entry for name, entry in self.entries.items()}

    def others_with(self, resource: str) -> dict[str, str]:
        """Other projects on this host that own the same thing: project -> id there."""
        return self._load_owners().get(identity(resource), {})

    def refuse_if_owned(self, resource: str, source: str) -> None:
        """Raise if another project owns the resource."""
        for other, name in self.others_with(resource).items():
            theirs = self._load_others()[other][name].source
            raise HostctlError(
                f"cannot manage {resource}: project {other} ({theirs}) owns it already, "
                f"and project {self.project} ({source}) declares it too",
                hint=f"declare it in one of the two, or `destroy` {other} first",
                ref="resource-owned",
            )

    def hand_over(self, resource: str) -> bool:
        """Give how a shared resource is put back to another project that has it; False if none does."""
        others = self.others_with(resource)
        if not others:
            return False
        project, name = next(iter(others.items()))
        heir, ours = Ledger(self._paths, project), self.entries[resource]
        heir.entries[name] = replace(heir.entries[name], undo=ours.undo, created=ours.created)
        heir.save()
        return True

    def save(self) -> None:
        """Write the ledger if it differs from what was read; without entries there is no file."""
        data = {name: entry.to_json() for name, entry in self.entries.items()}
        if data == self._saved:
            return
        if data:
            private_folder(self.folder)
            write_json(self._path, {"version": 1, "project": self.project, "resources": data})
        elif os.path.exists(self._path):
            os.unlink(self._path)
        self._saved = data

    def _load_owners(self) -> dict[str, dict[str, str]]:
        if self._owners is None:
            self._owners = {}
            for project, entries in self._load_others().items():
                for name in entries:
                    self._owners.setdefault(identity(name), {})[project] = name
        return self._owners

    def _load_others(self) -> dict[str, dict[str, Entry]]:
        if self._others is None:
            folder = os.path.dirname(self.folder)
            try:
                names = sorted(os.listdir(folder))
            except FileNotFoundError:
                names = []
            self._others = {
                name: _load(os.path.join(folder, name, "ledger.json"))
                for name in names
                if name != self.project
            }
        return self._others


def _load(path: str) -> dict[str, Entry]:
    data = read_json(path)
    if data is None:
        return {}
    return {name: Entry.from_json(entry) for name, entry in data["resources"].items()}


class Redactor:
    """Replaces the spec of a `no_log` resource by a keyed hash, so that equal values can be told."""

    def __init__(self, paths: Paths) -> None:
        self._path = os.path.join(paths.data, "key")
        self._key = b""

    def spec(self, resource: Resource) -> dict[str, Any]:
        if not resource.no_log:
            return resource.spec
        return {"keyed_hash": self.hash(canonical(resource.spec))}

    @property
    def ready(self) -> bool:
        """Whether the host has a key already: without one it has no hashes either."""
        return bool(self._key) or os.path.exists(self._path)

    def hash(self, data: bytes) -> str:
        """The keyed hash of the bytes, as hex digits. The key is made when it is first needed."""
        with _key_lock:
            if not self._key:
                self._key = self._load_key()
        return hashlib.blake2b(data, key=self._key, digest_size=32).hexdigest()

    def _load_key(self) -> bytes:
        try:
            with open(self._path, "rb") as stream:
                key = stream.read()
            if len(key) == 32:
                return key
        except FileNotFoundError:
            pass
        key = os.urandom(32)
        private_folder(os.path.dirname(self._path))
        write_atomic(self._path, key)
        return key


def redact_undo(undo: dict[str, Any], resource: Resource, required: set[str]) -> dict[str, Any]:
    """An undo without the declared values of a `no_log` resource, except those that name it."""
    if not resource.no_log:
        return undo
    return {
        name: value
        for name, value in undo.items()
        if name in required or name == "state" or value != resource.spec.get(name, object())
    }
