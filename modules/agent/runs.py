"""Runs on the managed host: a whole run: a document, or a `destroy`, from its first step to its report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..contract.change import Reason
from ..contract.document import (
    VERSION,
    Document,
    Resource,
    document_from_json,
    resource_from_json,
)
from ..contract.errors import HostctlError
from ..contract.reference import canonical_name
from ..contract.report import HostReport, HostStatus, Status
from .channel import Channel
from .content import Content
from .executor import GRAPH, Executor, is_open, steps_of
from .handlers import Handlers
from .host import Host, Paths
from .ledger import Entry, one_kind
from .modes import Apply, Plan
from .records import Records
from .removal import plan_removal
from .step import Run, Step

KEPT_KIND = "volume"
IMAGE = "image"


class Session:
    """One run on this host.

    Args:
        writing: False for a plan: nothing is acted on, nothing is written down.
    """

    def __init__(self, paths: Paths, channel: Channel, host: Host, writing: bool) -> None:
        self._paths = paths
        self._channel = channel
        self._host = host
        self._writing = writing
        self._content = Content(paths, channel, stored=writing)
        self._warnings: list[str] = []

    def apply_document(self, header: dict[str, Any]) -> HostReport:
        """Make the host what the document, and the `tasks` frames that follow it, say."""
        document = document_from_json(header["document"])
        if document.version != VERSION:
            raise HostctlError(
                f"cannot read a document of version {document.version}: this agent reads {VERSION}",
                hint="the controller and its agent come from different versions; install hostctl anew",
                ref="document-version",
            )
        self._host.take_registries(header, self._channel)
        self._meet_others(document.resources)
        executor, handlers, records = self._prepare(document.project)
        records.source = document.source
        try:
            handlers.define(document.handlers)
            steps = steps_of(document.resources)
            early: set[str] = set()
            if document.prune and not document.more:
                steps, early = self._with_old_containers(records, document, steps)
            executor.perform(steps)
            while document.more and not executor.failed:
                self._channel.send("batch", done=True)
                more = self._next_tasks()
                document = _joined(document, more)
                handlers.define(more.handlers)
                executor.perform(steps_of(more.resources))
            executor.flush_handlers()
            if not executor.failed:
                self._orphans(records, document, executor, early)
                records.drop_twins(document)
        finally:
            if self._writing:
                self._content.drop_secrets()
                records.settle(step.resource for step in executor.steps if _settled(step))
                self._close(records, handlers.owed(all_defined=False))
        if not self._writing or executor.failed:
            return self._report(executor, 0)
        try:
            generation = records.generation(document, executor.changed, self._content)
        except OSError as error:
            raise HostctlError(
                f"cannot record the generation: {error}",
                hint="what was declared is done; free some space on the host, then apply again",
                ref="generation-not-written",
            ) from error
        self._tidy_images(executor, records, document)
        self._note_looks(executor)
        self._close(records, handlers.owed(all_defined=not document.partial))
        return self._report(executor, generation)

    def destroy(self, project: str, volumes: bool) -> HostReport:
        """Put back everything that the project owns as it was found, the last thing first."""
        executor, _, records = self._prepare(project)
        wanted = {
            name: entry
            for name, entry in records.ledger.entries.items()
            if volumes or entry.kind != KEPT_KIND
        }
        try:
            self._remove(records, wanted, executor)
        finally:
            if self._writing:
                self._close(records, ())
        if self._writing and not executor.failed:
            records.erase(self._content)
            self._tidy_images(executor, records, None)
        return self._report(executor, 0)

    def _prepare(self, project: str) -> tuple[Executor, Handlers, Records]:
        records = Records(self._paths, project)
        self._host.project = project
        self._host.blob = self._content.blob
        self._host.fetch = self._content.fetch
        self._host.keep = self._content.keep
        self._host.gone = lambda: self._channel.gone
        run = Run(self._host, self._channel, self._content, records)
        handlers = Handlers(records.journal.notified)
        mode = Apply(run) if self._writing else Plan(run)
        if self._writing:
            self._content.sweep()
        return Executor(run, mode, handlers), handlers, records

    def _next_tasks(self) -> Document:
        header, _ = self._channel.receive()
        if header["type"] != "tasks":
            raise HostctlError(
                f"cannot use a {header['type']} frame here: tasks must follow", ref="protocol"
            )
        self._host.take_registries(header, self._channel)
        resources = tuple(resource_from_json(item) for item in header.get("resources", ()))
        self._meet_others(resources)
        return Document(
            project=self._host.project,
            resources=resources,
            handlers=tuple(resource_from_json(item) for item in header.get("handlers", ())),
            content=header.get("content", {}),
            more=bool(header.get("more")),
        )

    def _meet_others(self, resources: Iterable[Resource]) -> None:
        """Where an image comes from another host, goes to others, or is to be pinned: talk about it.

        And where a build may use secrets or an SSH agent of the controller: it can be asked for them.
        """
        resources = tuple(resources)
        if any(
            one.kind == IMAGE
            and any((one.spec.get("build") or {}).get(key) for key in ("secrets", "ssh"))
            for one in resources
        ):
            self._host.open_questions(self._channel)
        told = ("on", "shared", "repin")
        if self._host.exchange is None and any(
            one.kind == IMAGE and any(one.spec.get(key) for key in told) for one in resources
        ):
            from .exchange import Exchange

            self._host.exchange = Exchange(self._channel)

    def _with_old_containers(
        self, records: Records, document: Document, steps: list[Step]
    ) -> tuple[list[Step], set[str]]:
        """Containers that are no longer declared go before the graph: they may hold its ports and names."""
        if any(is_open(r) and r.kind == "container" for r in document.resources):
            return steps, set()  # a plan that cannot tell which are old
        old = {
            name: entry
            for name, entry in records.undeclared(document).items()
            if entry.kind == "container"
        }
        groups, _ = plan_removal(records, old, Reason.REMOVED)
        removals = [step for group in groups for step in group]
        at = next((i for i, s in enumerate(steps) if s.resource.section == GRAPH), len(steps))
        return [*steps[:at], *removals, *steps[at:]], {step.resource.id for step in removals}

    def _orphans(
        self, records: Records, document: Document, executor: Executor, done: set[str]
    ) -> None:
        undeclared = {
            name: entry for name, entry in records.undeclared(document).items() if name not in done
        }
        self._leave_open(document, undeclared)
        kept = sorted(name for name in undeclared if undeclared[name].kind == KEPT_KIND)
        for name in kept:
            del undeclared[name]
            self._warnings.append(
                f"{name}: no longer declared; its data is kept (destroy --volumes removes it)"
            )
        if document.prune:
            self._remove(records, undeclared, executor, Reason.REMOVED)
            return
        self._warnings += [
            f"orphan: {name}: no longer declared; use --prune to remove it"
            for name in sorted(undeclared)
        ]

    def _leave_open(self, document: Document, undeclared: dict[str, Entry]) -> None:
        """In a plan: what a task declares only after apply is no orphan yet; nothing tells which that is."""
        kinds = {one_kind(resource.kind) for resource in document.resources if is_open(resource)}
        names = sorted(n for n, entry in undeclared.items() if one_kind(entry.kind) in kinds)
        for name in names:
            del undeclared[name]
        if names:
            self._warnings.append(
                f"may be an orphan, known after apply: {', '.join(names[:5])}"
                + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            )

    def _remove(
        self,
        records: Records,
        names: dict[str, Entry],
        executor: Executor,
        reason: Reason | None = None,
    ) -> None:
        groups, forgotten = plan_removal(records, names, reason)
        for group in groups:
            executor.perform(group)
        if self._writing:
            records.forget(forgotten)

    def _tidy_images(self, executor: Executor, records: Records, document: Document | None) -> None:
        """Where images came or went, those that are no longer needed go."""
        if not any(
            step.resource.kind == IMAGE and step.outcome is not None and step.outcome.changes
            for step in executor.steps
        ):
            return
        from ..store.tidy import tidy

        old = {
            canonical_name(str(entry.spec.get("name"))): name
            for name, entry in (records.undeclared(document) if document else {}).items()
            if entry.kind == IMAGE and entry.created
        }
        try:
            for name in tidy(self._paths.data, old):
                records.removed(old[name])
        except (HostctlError, OSError) as error:
            self._warnings.append(f"cannot remove old images: {error}")

    def _note_looks(self, executor: Executor) -> None:
        """Registries that were asked because the time had come, and had nothing new, are not asked again soon."""
        names = [
            canonical_name(step.spec.name)
            for step in executor.steps
            if step.resource.kind == IMAGE and getattr(step.observed, "looked", False)
        ]
        if names:
            from ..store.freshness import looked
            from ..store.store import Store

            try:
                looked(Store(self._paths.data), names)
            except (HostctlError, OSError) as error:
                self._warnings.append(f"cannot note when registries were asked: {error}")

    def _close(self, records: Records, owed: Iterable[str]) -> None:
        try:
            records.close(owed)
        except OSError as error:
            # The journal has what the ledger lacks; the next run reads both.
            self._warnings.append(f"cannot write the project's ledger: {error}")

    def _report(self, executor: Executor, generation: int) -> HostReport:
        failed = executor.failed
        for step in executor.steps:
            if step.outcome is not None and not step.removal and hasattr(step.kind, "warnings"):
                self._warnings += step.kind.warnings(step.spec, self._host)
        return HostReport(
            status=HostStatus.FAILED if failed else HostStatus.OK,
            outcomes=tuple(step.outcome for step in executor.steps if step.outcome is not None),
            failures=tuple(step.failure for step in executor.steps if step.failure is not None),
            generation=0 if failed else generation,
            # Containers of one project have some in common.
            warnings=tuple(dict.fromkeys((*self._warnings, *executor.warnings))),
        )


def _settled(step: Step) -> bool:
    return (
        not step.removal
        and step.outcome is not None
        and step.outcome.status in (Status.OK, Status.CHANGED)
    )


def _joined(document: Document, more: Document) -> Document:
    return replace(
        document,
        resources=document.resources + more.resources,
        handlers=document.handlers + more.handlers,
        content={**document.content, **more.content},
        more=more.more,
    )
