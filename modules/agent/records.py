"""Runs on the managed host: one run's bookkeeping: what it owns, intends, did, and leaves behind."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..contract.document import Document, Resource
from ..contract.spec import encode
from . import kinds
from .generations import Generations, referenced_digests
from .handlers import HANDLERS
from .host import Host, Paths
from .journal import Journal
from .ledger import Entry, Ledger, Redactor, identity, redact_undo

if TYPE_CHECKING:
    from .content import Content
    from .step import Step


class Records:
    """Ledger, journal and generations of the run's project. Reading only until an act begins."""

    def __init__(self, paths: Paths, project: str) -> None:
        self._paths = paths
        self.source = ""
        self.ledger = Ledger(paths, project)
        self.journal = Journal(os.path.join(self.ledger.folder, "journal.jsonl"))
        self.generations = Generations(self.ledger.folder)
        self._redactor = Redactor(paths)
        self._lock = threading.Lock()
        for name, entry in self.journal.intents.items():
            # What a killed run was about to touch is owned, as it was before that run.
            self.ledger.entries.setdefault(name, Entry.from_json(entry))
        self._order = self.ledger.next_order()

    def claim(self, step: Step) -> None:
        """Raise if the resource belongs to another project."""
        resource = step.resource
        if self._is_new(step) and not kinds.is_shared(resource.kind):
            self.ledger.refuse_if_owned(resource.id, self.source)

    def contact(self, steps: Iterable[Step], host: Host) -> None:
        """Before anything of these is touched for the first time: how to put it back, on disk.

        Raises whatever a kind's `undo` raises.
        """
        fresh: dict[str, Entry] = {}
        twins: dict[str, Entry] | None = None
        for step in steps:
            if not self._is_new(step):
                continue
            if twins is None:
                twins = self.ledger.by_identity()
            twin = twins.get(identity(step.resource.id))
            undo = None if twin else step.kind.undo(step.spec, step.observed, host)
            with self._lock:
                entry = self._entry(step, undo)
                if twin is not None:
                    # What it was before the project is what it was before the first of the two.
                    entry = replace(entry, kind=twin.kind, undo=twin.undo, created=twin.created)
                fresh[step.resource.id] = entry
        if not fresh:
            return
        with self._lock:
            self.journal.intend({name: entry.to_json() for name, entry in fresh.items()})
            self.ledger.entries.update(fresh)

    def _is_new(self, step: Step) -> bool:
        """Something to own that is not owned yet; what handlers do belongs to what notified them."""
        resource = step.resource
        return (
            resource.id not in self.ledger.entries
            and resource.section != HANDLERS
            and hasattr(step.kind, "undo")
        )

    def _entry(self, step: Step, undo: object) -> Entry:
        resource = step.resource
        encoded = None
        if undo is not None:
            required = {
                field.name
                for field in dataclasses.fields(step.kind.Spec)
                if field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            }
            encoded = redact_undo(encode(undo), resource, required)
        order, self._order = self._order, self._order + 1
        return Entry(
            kind=resource.kind,
            spec=self._redactor.spec(resource),
            undo=encoded,
            created=encoded is not None and encoded.get("state") == "absent",
            source=self.source,
            needs=resource.needs,
            order=order,
            name=resource.name,
            no_log=resource.no_log,
        )

    def begin(self, step: Step) -> None:
        with self._lock:
            self.journal.act(step.resource.id, step.resource.notify)

    def end(self, step: Step, changed: bool) -> None:
        with self._lock:
            self.journal.done(step.resource.id, changed)

    def ran(self, handler: str) -> None:
        with self._lock:
            self.journal.ran(handler)

    def removed(self, resource: str) -> None:
        """The resource was put back: the project does not own it any more."""
        with self._lock:
            self.ledger.entries.pop(resource, None)

    def undeclared(self, document: Document) -> dict[str, Entry]:
        """What is owned and not in the whole document; a limited run says nothing about the rest."""
        if document.partial:
            return {}
        declared = {identity(name) for name in _declared(document)}
        return {
            name: entry
            for name, entry in self.ledger.entries.items()
            if identity(name) not in declared
        }

    def drop_twins(self, document: Document) -> None:
        """Forget ids that mean what another declared id means now."""
        for name in (
            self.ledger.entries.keys() - _declared(document) - self.undeclared(document).keys()
        ):
            if not document.partial:
                self.removed(name)

    def forget(self, names: Iterable[str]) -> None:
        """These are left as they are, or to another project that has them too."""
        for name in names:
            self.ledger.hand_over(name)
            self.removed(name)

    def settle(self, resources: Iterable[Resource]) -> None:
        """What the declared resources are now, as the ledger will say it."""
        for resource in resources:
            entry = self.ledger.entries.get(resource.id)
            if entry is not None and not resource.skip:
                self.ledger.entries[resource.id] = replace(
                    entry,
                    spec=self._redactor.spec(resource),
                    source=self.source,
                    needs=resource.needs,
                    name=resource.name,
                    no_log=resource.no_log,
                )

    def close(self, owed: Iterable[str]) -> None:
        """Write the ledger; the journal keeps only what is still owed."""
        self.ledger.save()
        self.journal.close(owed)

    def generation(self, document: Document, changed: bool, content: Content) -> int:
        """Record what was applied and drop content that nothing names any more."""
        number, new = self.generations.record(document, self._redactor, changed, self._images)
        if new:
            content.sweep(referenced_digests(self._paths.data))
        return number

    def _images(self) -> dict[str, str]:
        from ..store.store import Store

        return {image.name: image.image_id for image in Store(self._paths.data).images()}

    def erase(self, content: Content) -> None:
        """Forget the project, except what it still owns (volumes that were kept)."""
        import shutil

        shutil.rmtree(os.path.join(self.ledger.folder, "generations"), ignore_errors=True)
        if not self.ledger.entries:
            shutil.rmtree(self.ledger.folder, ignore_errors=True)
        content.sweep(referenced_digests(self._paths.data))


def _declared(document: Document) -> set[str]:
    return {*(resource.id for resource in document.resources), *document.also}
