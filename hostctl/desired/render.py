"""Runs on the controller: one task, with one host's variables, into the resources it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hostctl_host.contract.document import Resource
from hostctl_host.contract.spec import encode

from ..playbook.errors import Collector, did_you_mean
from ..playbook.keys import LOCAL
from ..playbook.kinds import Kinds
from ..playbook.model import Play, Task
from ..template import Deferred, Engine, Scope, TemplateError, UnknownResult
from ..template.engine import is_template
from . import local
from .content import Content, fill
from .draft import Draft, Rendered
from .service_files import digests as content_of
from .service_files import read_files
from .standalone import lower_task
from .validate import validate
from .values import fill_value

CONTENT_KINDS = ("copy", "template", "secret", "config")


class Renderer:
    """Renders tasks. One for a run; it keeps no state of a host."""

    def __init__(self, engine: Engine, kinds: Kinds, content: Content) -> None:
        self.engine = engine
        self.kinds = kinds
        self.content = content

    def task(
        self, task: Task, play: Play, scope: Scope, errors: Collector, acts: local.Acts
    ) -> Rendered:
        """The task's resources, or its act on the controller.

        Raises:
            Deferred: it needs a fact or a result that is not there yet.
        """
        base = scope.child(task.vars) if task.vars else scope
        looped = task.loop is not None
        if task.kind in LOCAL:
            return Rendered(act=self._act(task, play, base, acts), looped=looped)
        drafts: list[Draft] = []
        try:
            for item, final in self._items(task, base):
                inner = base.child({}, final) if final else base
                try:
                    drafts += self._one(task, play, inner, final, item, errors)
                except TemplateError as error:
                    errors.take(error)
        except UnknownResult as unknown:
            # no item is known, so there is none to name
            whole = replace(task, loop=None)
            drafts.append(self._unknown(whole, play, base, {}, None, unknown))
        except TemplateError as error:
            errors.take(error)
        return Rendered(tuple(drafts), looped=looped)

    def _act(self, task: Task, play: Play, scope: Scope, acts: local.Acts) -> Any:
        """Evaluates now (so that Deferred is raised now); what has an effect is done by the returned act."""
        done = []
        hidden = self._hidden(task, play, scope)
        scope.touched.clear()
        try:
            items = list(self._items(task, scope))
        except UnknownResult as error:
            act = local.undecided(task, acts, error.name)
            return lambda: [act()]
        hidden = hidden or bool(scope.touched)
        for _, final in items:
            inner = scope.child({}, final) if final else scope
            due, _, unknown = self._when(task, inner)
            scope.touched.clear()
            try:
                if unknown:
                    raise UnknownResult(unknown)
                if due:
                    done.append(local.prepare(task, inner, self.engine, acts, hidden))
            except UnknownResult as error:
                done.append(local.undecided(task, acts, error.name))
        return lambda: [act() for act in done]

    def _items(self, task: Task, scope: Scope) -> Iterator[tuple[Any, dict[str, Any]]]:
        if task.loop is None:
            yield None, {}
            return
        place = task.place("loop" if "loop" in task.keys else "with_items")
        items = self.engine.value(scope, task.loop, place)
        if isinstance(items, dict):
            raise TemplateError(
                "cannot loop over a map",
                place=place,
                hint="use the filter dict2items",
                ref="loop-type",
            )
        if not isinstance(items, (list, tuple)):
            shown = type(items).__name__
            raise TemplateError(
                f"cannot loop over this {shown}: it is no list", place=place, ref="loop-type"
            )
        for index, item in enumerate(items):
            final = {task.loop_var: item, "ansible_loop_var": task.loop_var}
            if task.index_var:
                final[task.index_var] = index
            yield item, final

    def _when(self, task: Task, scope: Scope) -> tuple[bool, str, str]:
        """(do it, the condition that was false, the unknown result that decides)."""
        unknown = ""
        for index, condition in enumerate(task.when):
            listed = isinstance(task.keys.get("when"), list)
            place = task.place("when", index) if listed else task.place("when")
            try:
                if not self.engine.condition(scope, condition, place):
                    return False, _text(condition), ""
            except UnknownResult as error:
                unknown = error.name
        return True, "", unknown

    def _one(
        self,
        task: Task,
        play: Play,
        scope: Scope,
        final: dict[str, Any],
        item: Any,
        errors: Collector,
    ) -> list[Draft]:
        do, condition, unknown = self._when(task, scope)
        resource = self._frame(task, play, scope, item, errors)
        if not do:
            skipped = replace(resource, skip=f"when: {condition}")
            return [
                Draft(
                    task.kind,
                    self._key(task, scope, item, resource),
                    skipped,
                    final=final,
                    item=item,
                )
            ]
        cls = self.kinds.spec(task.kind)
        try:
            data = self.engine.value(scope, task.args, task.args_where)
            if task.kind == "command" and play.environment:
                own = data.get("environment")
                data["environment"] = {
                    **self.engine.value(scope, play.environment, play.place("environment")),
                    **(own if isinstance(own, dict) else {}),
                }
            if task.kind in ("secret", "config"):
                scope.touched.clear()
                data = self.engine.value(scope, task.args, task.args_where)
                if scope.touched and task.kind == "config":
                    data["hidden"], resource = True, replace(resource, no_log=True)
                filled = fill_value(
                    task.kind,
                    data,
                    task.args,
                    task.args_where,
                    self.engine,
                    self.content,
                    errors,
                )
                if filled is None:
                    return []
                data = filled
            elif task.kind in CONTENT_KINDS:
                filled = fill(
                    task.kind,
                    data,
                    task.args,
                    task.args_where,
                    scope,
                    self.engine,
                    self.content,
                    errors,
                )
                if filled is None:
                    return []
                data = filled
        except UnknownResult as error:
            return [self._unknown(task, play, scope, final, item, error)]
        if task.kind == "container":
            data = read_files(data, task.args, task.args_where, self.engine, self.content, errors)
        spec = validate(cls, task.kind, data, task.args_where, task.args, errors)
        if spec is None:
            return []
        implicit: list[Draft] = []
        if task.kind == "container" and spec.state != "absent":
            lowered = lower_task(spec, task, play, scope, self.engine, self.kinds, errors, resource)
            if lowered is None:
                return []
            spec, implicit = lowered
        made = replace(resource, spec=encode(spec), maybe=bool(unknown))
        digest = data.get("digest", "") if task.kind in CONTENT_KINDS else ""
        key = _title_key(task) if _secret_key(resource) else key_of(spec)
        digests = content_of(spec) if task.kind == "container" else (digest,) if digest else ()
        return [*implicit, Draft(task.kind, key, made, digests, final=final, item=item)]

    def _frame(
        self, task: Task, play: Play, scope: Scope, item: Any, errors: Collector
    ) -> Resource:
        """Everything of the resource that does not depend on the kind."""
        flag = self.engine.condition
        return Resource(
            id="",
            kind=task.kind,
            name=self._title(task, play, scope, item),
            where=task.where.position,
            section=task.section,
            notify=self._notify(task, play, scope, errors),
            register=task.register,
            verdict=task.changed_when is not None or task.failed_when is not None,
            ignore_errors=flag(scope, task.ignore_errors, task.place("ignore_errors")),
            no_log=self._hidden(task, play, scope),
        )

    def _hidden(self, task: Task, play: Play, scope: Scope) -> bool:
        """`no_log`: the task's own word, else the play's; a secret is one whatever they say."""
        if task.kind == "secret":
            return True
        if task.keys.get("no_log") is not None:
            return self.engine.condition(scope, task.no_log, task.place("no_log"))
        return self.engine.condition(scope, play.no_log, play.place("no_log"))

    def _title(self, task: Task, play: Play, scope: Scope, item: Any) -> str:
        """The task's name for people: rendered if that is possible, with the item of a loop.

        A task of a loop that has no name is called by its kind; without a loop its id says all.
        """
        name = task.name
        label = ""
        try:
            if is_template(name):
                name = str(self.engine.text(scope, name, task.place("name")))
            if task.loop is not None and not self._hidden(task, play, scope):
                shown = (
                    self.engine.value(scope, task.label, task.where)
                    if task.label is not None
                    else item
                )
                label = f" (item={shown})" if len(str(shown)) <= 100 else ""
        except (TemplateError, Deferred, UnknownResult):
            pass
        return f"{name or task.kind}{label}" if label else name

    def _notify(self, task: Task, play: Play, scope: Scope, errors: Collector) -> tuple[str, ...]:
        out: list[str] = []
        for index, raw in enumerate(task.notify):
            listed = isinstance(task.keys.get("notify"), list)
            place = task.place("notify", index) if listed else task.place("notify")
            wanted = str(self.engine.text(scope, raw, place)) if is_template(raw) else raw
            found = [h.name for h in play.handlers if wanted == h.name or wanted in h.listen]
            if not found:
                known = [
                    name for handler in play.handlers for name in (handler.name, *handler.listen)
                ]
                errors.add(
                    f"cannot notify {wanted}: there is no such handler",
                    where=place,
                    hint=did_you_mean(wanted, known),
                    ref="unknown-handler",
                )
            out += [name for name in found if name not in out]
        return tuple(out)

    def _key(self, task: Task, scope: Scope, item: Any, resource: Resource) -> str:
        """The id's key of a task that is not rendered in full: from its first argument if that can be had."""
        from .exact import field_names

        if _secret_key(resource):
            return _title_key(task)
        for name in (*field_names(self.kinds.spec(task.kind))[:1], "argv"):
            if name in task.args:
                try:
                    value = self.engine.value(scope, task.args[name], task.args_where)
                    return _key_text(tuple(value) if isinstance(value, list) else value)
                except (TemplateError, Deferred, UnknownResult):
                    break
        shown = isinstance(item, (str, int)) and not resource.no_log
        return _title_key(task) + (f"-{item}" if shown else "")

    def _unknown(
        self,
        task: Task,
        play: Play,
        scope: Scope,
        final: dict[str, Any],
        item: Any,
        unknown: UnknownResult,
    ) -> Draft:
        """A task that depends on what is known only after apply: it is shown, and not looked at."""
        quiet = Collector()
        resource = replace(
            self._frame(task, play, scope, item, quiet),
            skip=f"may change: {unknown.name} is known after apply",
            maybe=True,
            verdict=False,
        )
        return Draft(
            task.kind,
            self._key(task, scope, item, resource),
            resource,
            final=final,
            item=item,
            unknown=True,
        )


def _secret_key(resource: Resource) -> bool:
    """What a program is called with is a value; what says where a thing is, its identity, is not."""
    return resource.no_log and resource.kind == "command"


def _title_key(task: Task) -> str:
    return re.sub(r"\s+", "-", task.title)


def key_of(spec: Any) -> str:
    """The id's key: the first field of a spec (`path`, `dest`, `name`); for a command what it runs."""
    data = vars(spec)
    if "cmd" in data and not data["cmd"]:
        return _key_text(data.get("argv", ()))
    return _key_text(next(iter(data.values())))


def _key_text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return (
            " ".join(str(one) for one in value)
            if len(value) < 6
            else f"{value[0]}+{len(value) - 1}"
        )
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else text[:117] + "..."


def _text(condition: Any) -> str:
    return str(condition).lower() if isinstance(condition, bool) else str(condition).strip()
