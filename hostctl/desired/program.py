"""Runs on the controller: what one host is told in one play, piece by piece as results come in.

One file: all of its pieces move along one cursor through the play's steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.document import Document, Resource, document_to_json
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.spec import encode

from ..credentials import Logins
from ..inventory import InventoryHost
from ..playbook.errors import Collector
from ..playbook.keys import LOCAL
from ..playbook.model import Play, Task
from ..template import Deferred, Scope, TemplateError, UnknownResult
from .content import Content
from .draft import Draft, Registration, Rendered, result_of
from .local import Acts
from .names import Ids
from .render import Renderer
from .variables import HostState

if TYPE_CHECKING:
    from ..fleet.dock import Dock
    from .pins import Pins

Graph = Callable[[Scope, Collector], list[Draft]]


class HostProgram:
    """One host's part of a play: `facts`, `first`, then `answer`, `verdict` and `next` as frames come.

    Attributes:
        host, project: whom it is for.
        become: whether the agent has to run as root.
        connection: rendered `ansible_*` and `hostctl_*` variables, for the fleet.
        logins: of the images' registries; what they say goes beside the document.
        dock: where images go to, or come from, other hosts; None where all are made where they are.
        pins: the digests that tags mean; None where nobody said.
        messages: lines of `debug` tasks: (task, text).
    """

    def __init__(
        self,
        host: InventoryHost,
        play: Play,
        tasks: list[Task],
        graph: Graph | None,
        *,
        renderer: Renderer,
        scope: Callable[[], Scope],
        state: HostState,
        ids: Ids,
        options: Document,
        shared: dict[int, Rendered | None],
    ) -> None:
        self.host = host
        self.play = play
        self.project = options.project
        self.become = False
        self.connection: dict[str, Any] = {}
        self.logins = Logins()
        self.dock: Dock | None = None
        self.pins: Pins | None = None
        self.messages: list[tuple[str, str]] = []
        self._renderer = renderer
        self._content: Content = renderer.content
        self._make_scope = scope
        self._scope = scope()
        self._state = state
        self._ids = ids
        self._options = options
        self._shared = shared
        self._steps: list[Task | Graph] = [
            *(task for task in tasks if task.section != "post_tasks"),
            *([graph] if graph else []),
            *(task for task in tasks if task.section == "post_tasks"),
        ]
        self._handlers: list[Task] = list(play.handlers)
        self._ready: dict[int, tuple[Resource, ...]] = {}
        self._registrations: dict[int, Registration] = {}
        self._waiting: dict[str, Registration] = {}
        self._by_id: dict[str, tuple[str, Task, dict[str, Any]]] = {}
        self._unknown: set[str] = set()
        self._digests: dict[str, tuple[str, ...]] = {}
        self._implied: dict[str, tuple[int, str]] = {}
        self._cursor = 0
        self._completing = False

    @property
    def name(self) -> str:
        """The host's name."""
        return self.host.name

    # before any host is touched

    def trial(self, errors: Collector) -> None:
        """Render everything that needs neither facts nor results; what is wrong goes to `errors`."""
        for index, step in enumerate(self._steps):
            try:
                self._ready[index] = self._render(index, step, errors, trial=True)
            except Deferred:
                pass
            except TemplateError as error:
                errors.take(error)
            self._promise(index, step)
        for handler in self._handlers:
            try:
                self._renderer.task(handler, self.play, self._scope, errors, Acts())
            except Deferred:
                pass

    def _promise(self, index: int, step: Task | Graph) -> None:
        """Names that a step will define during the run: what uses them has to wait until then."""
        if isinstance(step, Task) and step.register:
            self._state.pending.add(step.register)
        if isinstance(step, Task) and step.kind in LOCAL:
            rendered = index in self._ready
            self._ready.pop(index, None)
            if step.kind == "set_fact" and not rendered:
                self._state.pending.update(str(key) for key in step.args)

    def builders(self) -> dict[str, str]:
        """Hosts that are to build images for this one, each with where that is written, as far as is known."""
        return {
            str(one.spec["on"]): one.where
            for resources in self._ready.values()
            for one in resources
            if one.kind == "image" and one.spec.get("on")
        }

    def leave_rest(self) -> None:
        """Later plays document more of the project on this host: nothing missing here is an orphan."""
        self._options = replace(self._options, partial=True)

    def complete(self, prune: bool) -> None:
        """Earlier plays documented the rest of the project on this host: orphans show here."""
        self._completing = True
        self._options = replace(self._options, prune=prune)

    # during the run

    def facts(self, facts: dict[str, Any]) -> None:
        """The host's facts (from its hello), named without `ansible_`."""
        self._state.take_facts(facts)
        if self.dock is not None:
            self.dock.machine = str(facts.get("architecture", ""))

    def document(self) -> Document:
        """Everything that can be rendered now; `more` where a task has to wait for a result."""
        self._state.pending.clear()
        self._scope = self._make_scope()
        also = tuple(sorted(self._ids.sent)) if self._completing else ()
        resources, handlers, more = self._advance()
        return replace(
            self._options,
            also=also,
            resources=tuple(resources),
            handlers=tuple(handlers),
            content=self._sizes(resources, handlers),
            more=more,
        )

    def first(self) -> dict[str, Any]:
        """The `document` frame.

        Raises:
            PlaybookErrors: what shows only with the host's facts.
        """
        document = self.document()
        document = replace(document, resources=self._placed(document.resources))
        told = self.logins.for_images(document.resources, document.handlers)
        return {"type": "document", "document": document_to_json(document), **told}

    def blob(self, digest: str) -> bytes:
        """The bytes of a content blob."""
        return self._content.read(digest)

    def answer(self, frame: dict[str, Any]) -> None:
        """Take a `result` frame; a registered variable is there once all items of its task are in."""
        name = frame["id"]
        if name not in self._by_id or name in self._unknown:
            return
        variable, task, _ = self._by_id[name]
        registration = self._waiting.get(variable)
        if registration is None or name not in registration.ids:
            return
        registration.results[name] = result_of(frame.get("result", {}), variable or task.title)
        if not frame.get("verdict"):
            self._settle(variable)

    def verdict(self, frame: dict[str, Any]) -> dict[str, Any]:
        """The `verdict` frame for a result: what `changed_when` and `failed_when` say about it."""
        name = frame["id"]
        variable, task, final = self._by_id[name]
        result = result_of(frame.get("result", {}), variable or task.title)
        known = {**final, **({task.register: result} if task.register else {})}
        scope = (self._scope.child(task.vars) if task.vars else self._scope).child({}, known)
        said: dict[str, bool] = {}
        message = ""
        for key, conditions in (("failed", task.failed_when), ("changed", task.changed_when)):
            try:
                if conditions is not None:
                    said[key] = self._all(task, f"{key}_when", conditions, scope)
                elif not result.unknown:
                    said[key] = bool(result.get(key, False))
            except UnknownResult:
                continue  # only in a plan: it stays open
            except (TemplateError, Deferred) as error:
                said["failed"], message = True, str(error)
        if said.get("failed") and task.failed_when is not None and not message:
            message = f"failed_when: {', '.join(str(one) for one in task.failed_when)}"
        registration = self._waiting.get(variable)
        if registration is not None and name in registration.ids:
            registration.results.setdefault(name, result).update(said)
            self._settle(variable)
        # what stays open may fail to change: the agent marks it as uncertain
        changed, failed = said.get("changed", True), said.get("failed", False)
        return {
            "type": "verdict",
            "id": name,
            "changed": changed,
            "failed": failed,
            "message": message,
        }

    def next(self) -> dict[str, Any]:
        """The next `tasks` frame, after a `batch`."""
        for variable in [name for name, one in self._waiting.items() if not one.complete]:
            # the agent is done with them and said nothing: nothing is known
            registration = self._waiting[variable]
            for name in registration.ids:
                registration.results.setdefault(name, result_of({"unknown": True}, variable))
            self._settle(variable)
        resources, handlers, more = self._advance()
        placed = self._placed(resources)
        return {
            "type": "tasks",
            "resources": [encode(resource) for resource in placed],
            "handlers": [encode(handler) for handler in handlers],
            "content": self._sizes(resources, handlers),
            "more": more,
            **self.logins.for_images(placed, handlers),
        }

    def reply(self, frame: dict[str, Any]) -> dict[str, Any]:
        """The `answer` frame to a `question`."""
        return self.logins.reply(frame)

    def _placed(self, resources: Iterable[Resource]) -> tuple[Resource, ...]:
        """The resources with what other hosts, and the lock file, say about their images."""
        if self.pins is not None:
            resources = self.pins.mark(resources)
        return tuple(resources) if self.dock is None else self.dock.assign(resources)

    def _all(self, task: Task, key: str, conditions: tuple[Any, ...], scope: Scope) -> bool:
        return all(
            self._renderer.engine.condition(scope, one, task.place(key)) for one in conditions
        )

    def _settle(self, variable: str) -> None:
        registration = self._waiting.get(variable)
        if registration is None or not registration.complete:
            return
        del self._waiting[variable]
        self._state.learnt[variable] = registration.value()
        self._keep_secret((variable,), registration.secret)
        self._state.pending.discard(variable)
        self._scope = self._make_scope()

    def _advance(self) -> tuple[list[Resource], list[Resource], bool]:
        """Resources from the cursor to the next step that has to wait, and the handlers that can be sent."""
        errors = Collector()
        out: list[Resource] = []
        start = self._cursor
        while self._cursor < len(self._steps):
            step = self._steps[self._cursor]
            try:
                if self._cursor not in self._ready:
                    self._ready[self._cursor] = self._render(
                        self._cursor, step, errors, trial=False
                    )
            except Deferred as waits:
                if self._cursor == start and not self._waiting:
                    raise HostctlError(
                        f"cannot render: {waits.name} is never known",
                        where=str(step.where) if isinstance(step, Task) else "",
                        ref="never-known",
                    ) from None
                break
            except TemplateError as error:
                errors.take(error)
                self._ready[self._cursor] = ()
            except HostctlError as error:
                errors.take(error)
                break
            out += self._ready[self._cursor]
            self._expect(self._cursor)
            self._cursor += 1
        errors.check()
        more = self._cursor < len(self._steps)
        handlers, waiting = self._send_handlers(errors)
        errors.check()
        self._ids.sent.update(resource.id for resource in (*out, *handlers))
        return out, handlers, more or (waiting and bool(self._waiting))

    def _expect(self, index: int) -> None:
        """From here on the step's variable is what its own result will be."""
        registration = self._registrations.get(index)
        if registration is not None:
            variable = registration.task.register
            self._state.learnt.pop(variable, None)
            self._state.pending.add(variable)
            self._waiting[variable] = registration
            self._scope = self._make_scope()
            self._settle(variable)

    def _send_handlers(self, errors: Collector) -> tuple[list[Resource], bool]:
        """Handlers whose variables are there; whether others still wait."""
        sent: list[Resource] = []
        left: list[Task] = []
        for handler in self._handlers:
            try:
                rendered = self._renderer.task(handler, self.play, self._scope, errors, Acts())
            except Deferred:
                left.append(handler)
                continue
            for draft in rendered.drafts:
                name = f"handler.{handler.name}"
                self._digests[name] = draft.digests
                self._by_id[name] = ("", handler, draft.final)
                sent.append(replace(draft.resource, id=name, section="handlers"))
        self._handlers = left
        return sent, bool(left)

    def _render(
        self, index: int, step: Task | Graph, errors: Collector, *, trial: bool
    ) -> tuple[Resource, ...]:
        if not isinstance(step, Task):
            return self._identified(index, step(self._scope, errors), graph=True)[0]
        rendered = self._shared.get(id(step))
        if rendered is None:
            acts = Acts()
            before = len(errors.errors)
            rendered = self._renderer.task(step, self.play, self._scope, errors, acts)
            if rendered.act is not None:
                self._do(rendered.act, acts, step, trial)
                return ()
            if id(step) in self._shared and len(errors.errors) == before:
                self._shared[id(step)] = rendered
        resources, drafts = self._identified(index, list(rendered.drafts), graph=False)
        own = {
            resource.id: draft
            for resource, draft in zip(resources, drafts, strict=True)
            if not draft.implicit
        }
        self._by_id.update((name, (step.register, step, one.final)) for name, one in own.items())
        if step.register:
            self._registrations[index] = self._register(step, rendered, own)
        return resources

    def _do(self, act: Callable[[], None], acts: Acts, task: Task, trial: bool) -> None:
        """set_fact counts at once; what speaks or fails does so in the run, at its turn."""
        if trial and task.kind != "set_fact":
            return
        act()
        self.messages += acts.messages
        self._state.learnt.update(acts.variables)
        self._keep_secret(acts.variables, False)
        self._keep_secret(acts.secrets, True)
        if task.kind == "set_fact":
            self._state.pending.difference_update(str(key) for key in task.args)
            self._scope = self._make_scope()

    def _keep_secret(self, names: Iterable[str], secret: bool) -> None:
        secrets = self._state.secrets
        (secrets.update if secret else secrets.difference_update)(names)

    def _register(self, task: Task, rendered: Rendered, drafts: dict[str, Draft]) -> Registration:
        registration = Registration(
            task,
            list(drafts),
            [draft.item for draft in drafts.values()],
            rendered.looped,
            secret=any(draft.resource.no_log for draft in drafts.values()),
        )
        for name, draft in drafts.items():
            if draft.unknown:
                self._unknown.add(name)
                registration.results[name] = result_of({"unknown": True}, task.register)
            elif draft.resource.skip:
                skipped = {"changed": False, "skipped": True, "skip_reason": draft.resource.skip}
                registration.results[name] = result_of(skipped, task.register)
        return registration

    def _identified(
        self, index: int, drafts: list[Draft], *, graph: bool
    ) -> tuple[tuple[Resource, ...], list[Draft]]:
        """Resources with their ids, and their drafts; what an earlier step implies too is left out."""
        out: list[Resource] = []
        kept: list[Draft] = []
        renamed: dict[str, str] = {}
        for draft in drafts:
            wanted = f"{draft.kind}.{draft.key}"
            first, known = self._implied.get(wanted, (index, ""))
            if draft.implicit and known and first <= index:
                renamed[wanted] = known
                continue
            name = self._ids.make(draft.kind, draft.key)
            if draft.implicit:
                self._implied[wanted] = (index, name)
            renamed[wanted] = name
            self._digests[name] = draft.digests
            kept.append(draft)
            out.append(replace(draft.resource, id=name))
        if graph:
            full = [
                [tuple(renamed.get(n, n) for n in ns) for ns in (r.needs, r.optional)] for r in out
            ]
            out = [replace(r, needs=a, optional=b) for r, (a, b) in zip(out, full, strict=True)]
        return tuple(out), kept

    def _sizes(self, resources: list[Resource], handlers: list[Resource]) -> dict[str, int]:
        return {
            digest: self._content.size(digest)
            for resource in (*resources, *handlers)
            for digest in self._digests.get(resource.id, ())
        }
