"""Runs on the managed host: takes a document's steps in their order and ends with a report.

Tasks run strictly one after another, the graph by what needs what, handlers after each section.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from ..contract.change import Action, Change, Reason
from ..contract.document import Resource
from ..contract.errors import CannotApply, CannotObserve, HostctlError
from ..contract.report import Failure, Outcome, Status
from . import kinds
from .graph import WORKERS, in_order, run_graph
from .handlers import HANDLERS, Handlers, name_of
from .modes import Mode, Unsuccessful
from .step import Run, Step, check, look
from .verdicts import Verdicts

GRAPH = "graph"
ORPHANS = "orphans"
_PARALLEL = (GRAPH, ORPHANS)


class _Judged(HostctlError):
    """The controller has the result already, and says that it is a failure."""


# Errors whose words come from a kind: they may repeat a value, or what a program printed.
_TELLING = (_Judged, Unsuccessful, CannotApply, CannotObserve)


class Executor:
    """The steps of one run, in order of declaration, and what became of them."""

    def __init__(self, run: Run, mode: Mode, handlers: Handlers) -> None:
        self._run = run
        self._mode = mode
        self._handlers = handlers
        self._verdicts = Verdicts(run.channel)
        self._section = ""
        self._touched: set[str] = set()
        self._not_done: dict[str, str] = {}
        self.steps: list[Step] = []
        self.warnings: list[str] = []
        self._stopped_by = ""

    @property
    def failed(self) -> bool:
        return any(step.failed for step in self.steps)

    @property
    def changed(self) -> bool:
        return any(step.changed for step in self.steps)

    @property
    def _broken(self) -> str:
        """The task or member of the graph that failed: no task and no handler comes after it."""
        return self._stopped_by or next(iter(self._not_done.values()), "")

    def perform(self, steps: Sequence[Step]) -> None:
        """Look at all of these, then take them section by section."""
        self.steps += steps
        sections = [(name, list(group)) for name, group in groupby(steps, _section_of)]
        ordered = [(name, self._ordered(name, group)) for name, group in sections]
        self._look_at([step for _, group in ordered for step in group])
        for name, group in ordered:
            if self._section not in ("", name):
                self.flush_handlers()
            self._section = name
            self._begin(group)
            if name in _PARALLEL:
                self._take_graph(group)
            else:
                for step in group:
                    self._take_task(step)

    def flush_handlers(self) -> None:
        """Run those that were notified, once each; a handler may notify others."""
        while not self._broken:
            due = self._handlers.next()
            if due is None:
                return
            handlers, certain = due
            for handler in handlers:
                self._take_handler(handler, certain)

    def _take_handler(self, handler: Resource, certain: bool) -> None:
        resource = replace(handler, section=HANDLERS, maybe=handler.maybe or not certain)
        step = Step(resource, reason=Reason.NOTIFIED)
        at = (i for i, other in enumerate(self.steps) if other.outcome is None)
        self.steps.insert(next(at, len(self.steps)), step)
        self._look_at([step])
        self._take_task(step)
        if step.failed:
            self._handlers.notify([name_of(handler)])

    def _ordered(self, section: str, group: list[Step]) -> list[Step]:
        if section not in _PARALLEL:
            return group
        by_id = {step.resource.id: step for step in group}
        names = in_order(list(by_id), {name: step.resource.needs for name, step in by_id.items()})
        for name, step in by_id.items():
            if name not in names:
                step.error = HostctlError(
                    f"cannot order {name}: it needs itself, by way of {', '.join(step.resource.needs)}",
                    ref="needs-cycle",
                )
                self._fail(step, step.error)
        return [by_id[name] for name in names]

    def _look_at(self, steps: Sequence[Step]) -> None:
        """Look at each; content that text diffs miss is asked for at once, then those are looked at again."""
        missing_of: list[tuple[Step, set[str]]] = []
        for step in steps:
            if step.resource.skip or step.outcome is not None:
                continue
            noted: set[str] = set()
            self._run.content.note_missing(noted)
            look(self._run, step)
            if noted:
                missing_of.append((step, noted))
        self._run.content.note_missing(None)
        self._run.content.ask({name for _, noted in missing_of for name in noted})
        for step, noted in missing_of:
            try:
                self._run.content.fetch(noted)
            except HostctlError as error:
                step.error = error
            else:
                look(self._run, step)
        again = {step.resource.id for step, _ in missing_of} | self._look_beyond(steps)
        for step in steps:
            if step.resource.skip or step.outcome is not None or step.resource.id in again:
                continue
            if not again.isdisjoint(step.resource.needs):
                # It was seen when less was known of what it needs.
                look(self._run, step)
                again.add(step.resource.id)
        self._ask_ahead(steps)

    def _look_beyond(self, steps: Sequence[Step]) -> set[str]:
        """What other hosts make: this host has told them by now what it found, so none waits for it.

        Returns:
            Ids of the steps that were looked at again.
        """
        waiting = {step.resource.id: name for step in steps if (name := _awaited(step))}
        exchange = self._run.host.exchange
        if waiting and exchange is not None:
            exchange.ask(waiting.values())
            for step in steps:
                if step.resource.id in waiting:
                    look(self._run, step)
        return set(waiting)

    def _ask_ahead(self, steps: Sequence[Step]) -> None:
        """What the differing steps will need is on its way while the first of them run."""
        wanted: set[str] = set()
        for step in steps:
            if step.changes and step.error is None:
                wanted.update(kinds.content_of(step.kind, step.spec))
        if wanted:
            self._mode.expect(wanted)

    def _begin(self, group: list[Step]) -> None:
        """What an earlier section did may have changed what was seen; tasks look again each at its turn."""
        if self._broken:
            return
        todo = [step for step in group if step.outcome is None and not step.resource.skip]
        for step in todo:
            if step.resource.section in _PARALLEL and step.seen < self._run.acts:
                self._mode.renew(step)
        self._mode.prepare([step for step in todo if step.error is None and not step.removal])

    def _take_graph(self, group: list[Step]) -> None:
        if self._stopped_by:
            for step in group:
                self._skip(step, f"because {self._stopped_by} failed")
            return
        by_id = {step.resource.id: step for step in group}
        needs = {name: step.resource.needs for name, step in by_id.items()}
        quiet = all(not step.changes and step.error is None for step in group)
        run_graph(
            list(by_id), needs, lambda name: self._take_node(by_id[name]), 1 if quiet else WORKERS
        )

    def _take_node(self, step: Step) -> None:
        resource = step.resource
        missing = [name for name in resource.needs if name in self._not_done]
        cause = next((self._not_done[n] for n in missing if n not in resource.optional), "")
        if cause:
            self._skip(step, f"because {cause} failed")
            self._not_done[resource.id] = cause
            return
        self.warnings += [
            f"{resource.id}: goes on without {name}, which failed (it is not required)"
            for name in missing
        ]
        upset = any(name in self._touched for name in resource.needs)
        others = _awaited(step)
        if others:
            self._mode.await_others(step, others)
        elif upset and not resource.skip:
            self._mode.renew(step)
        self._take(step, upset)
        if upset:
            self._touched.add(resource.id)

    def _take_task(self, step: Step) -> None:
        if self._broken:
            self._skip(step, f"because {self._broken} failed")
            return
        if step.seen < self._run.acts and not step.resource.skip:
            self._mode.renew(step)
        self._take(step, bool(self._touched))
        if step.failed:
            self._stopped_by = step.resource.id

    def _take(self, step: Step, upset: bool) -> None:
        """One step to its end: skipped, failed, as declared, or changed."""
        resource = step.resource
        if step.outcome is not None:
            return
        if resource.skip:
            self._register(step, {"changed": False, "skipped": True, "skip_reason": resource.skip})
            self._skip(step, resource.skip)
            if is_open(resource):
                self._handlers.notify(resource.notify, certain=False)
            return
        try:
            self._settle(step, upset)
        except _Judged as error:
            self._fail(step, error)
        except HostctlError as error:
            self._judge_failure(step, error)

    def _judge_failure(self, step: Step, error: HostctlError) -> None:
        """`failed_when` may say that it is none; what does not converge after a verdict is one anyway."""
        result = error.result if isinstance(error, Unsuccessful) else {}
        result = {**result, "changed": False, "failed": True, "msg": error.message}
        if not step.resource.verdict or step.judged:
            if not step.judged:
                self._register(step, result)
            self._fail(step, error)
            return
        verdict = self._verdicts.ask(step.resource, result)
        if verdict.get("failed"):
            self._fail(step, error)
            return
        step.changes = step.changes if verdict.get("changed") else []
        self._end(step, Status.CHANGED if verdict.get("changed") else Status.OK)

    def _settle(self, step: Step, upset: bool) -> None:
        if step.error is None and not step.changes:
            self._finish(step, {"changed": False, "failed": False, **_reading(step)}, False)
            return
        result = self._mode.blind(step, upset) if step.error is not None else self._mode.act(step)
        self._finish(step, result.register, result.changed)

    def _finish(self, step: Step, register: dict[str, Any], changed: bool) -> None:
        """Ask the controller where it judges, look again after an act, and say how it ended."""
        resource = step.resource
        if resource.verdict:
            changed = self._judge(step, register, changed)
        else:
            self._register(step, register)
        if step.acted:
            check(self._run, step)
        if not changed:
            step.changes = []
        self._end(step, Status.CHANGED if changed else Status.OK)

    def _judge(self, step: Step, register: dict[str, Any], changed: bool) -> bool:
        """What `changed_when` says; in a plan it may be sure even about a result that is unknown."""
        verdict = self._verdicts.ask(step.resource, register)
        step.judged = True
        if verdict.get("failed"):
            message = verdict.get("message") or register.get("msg") or "`failed_when` is true"
            raise _Judged(str(message), ref="task-failed")
        if verdict.get("changed") and not step.changes:
            step.changes = [Change(Action.RUN, note="`changed_when` is true")]
        if register.get("unknown"):
            step.changes = [replace(item, certain=False) for item in step.changes]
        return bool(verdict.get("changed", changed))

    def _end(self, step: Step, status: Status) -> None:
        resource = step.resource
        if status is Status.CHANGED:
            self._touched.add(resource.id)
            certain = any(item.certain for item in step.changes)
            self._handlers.notify(resource.notify, certain)
        self._mode.ended(step, status is Status.CHANGED)
        step.outcome = Outcome(
            resource.id, status, tuple(step.changes), resource.name, "", resource.where
        )
        self._tell(step)

    def _fail(self, step: Step, error: HostctlError) -> None:
        resource = step.resource
        message, hint = str(error), error.hint
        if resource.no_log and isinstance(error, _TELLING) and error.ref != "not-converged":
            message, hint = f"cannot apply {resource.id}: why is hidden by no_log", ""
        step.failure = Failure(resource.id, message, hint, ignored=resource.ignore_errors)
        if step.acted and any(item.action is not Action.RUN for item in step.changes):
            # The next run may find nothing to do where this one got stuck half-way.
            self._handlers.notify(resource.notify)
        if not resource.ignore_errors:
            self._not_done[resource.id] = resource.id
        self._touched.add(resource.id)
        step.outcome = Outcome(
            resource.id, Status.FAILED, (), resource.name, message, resource.where
        )
        self._tell(step)

    def _skip(self, step: Step, reason: str) -> None:
        if step.outcome is None:
            resource = step.resource
            step.outcome = Outcome(
                resource.id, Status.SKIPPED, (), resource.name, reason, resource.where
            )
            self._tell(step)

    def _register(self, step: Step, result: dict[str, Any]) -> None:
        resource = step.resource
        if resource.register:
            self._run.channel.send(
                "result", id=resource.id, register=resource.register, result=result, verdict=False
            )

    def _tell(self, step: Step) -> None:
        assert step.outcome is not None
        status = step.outcome.status
        self._run.channel.send(
            "progress",
            # Other hosts wait for what is shared.
            gather=status in (Status.OK, Status.SKIPPED) and not step.resource.spec.get("shared"),
            id=step.resource.id,
            state=status.value,
            message=step.outcome.reason,
        )


def _awaited(step: Step) -> str:
    """The name of what another host makes for this step; empty where there is none."""
    if step.kind is None or step.removal or step.outcome is not None or step.resource.skip:
        return ""
    return kinds.awaited(step.kind, step.spec)


def is_open(resource: Resource) -> bool:
    """In a plan: what it will be, and whether it will be done, is known only after apply."""
    return resource.maybe and bool(resource.skip)


def steps_of(resources: Iterable[Resource]) -> list[Step]:
    """One step for each resource, nothing known yet."""
    return [Step(resource) for resource in resources]


def _section_of(step: Step) -> str:
    return step.resource.section


def _reading(step: Step) -> dict[str, Any]:
    """What a kind that has something to say without acting returns to `register`."""
    if hasattr(step.kind, "result"):
        return dict(step.kind.result(step.spec, step.observed) or {})
    return {}
