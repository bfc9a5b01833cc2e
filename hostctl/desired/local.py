"""Runs on the controller: the tasks that need no host: set_fact, debug, assert, fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hostctl_host.contract.errors import HostctlError

from ..playbook.model import Task
from ..template import Engine, Scope, TemplateError, UnknownResult
from ..template.engine import is_template
from ..template.scope import Result

Act = Callable[[], None]

_KEYS = {
    "debug": ("msg", "var", "verbosity"),
    "assert": ("that", "fail_msg", "msg", "success_msg", "quiet"),
    "fail": ("msg",),
}


@dataclass
class Acts:
    """What such tasks do: variables that they set (`secrets`: those never shown), and lines for people."""

    variables: dict[str, Any] = field(default_factory=dict)
    messages: list[tuple[str, str]] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)


def prepare(task: Task, scope: Scope, engine: Engine, acts: Acts, hidden: bool) -> Act:
    """Evaluate a task's arguments; the act that remains to be done.

    What is `hidden`, or was made from a result of a `no_log` task, is not said.

    Raises:
        Deferred: it needs what is not there yet.
        HostctlError: a condition of `assert` is false, or `fail` was reached (raised by the act).
    """
    args = engine.value(scope, {k: v for k, v in task.args.items() if k != "that"}, task.args_where)
    for key in args:
        if task.kind != "set_fact" and key not in _KEYS[task.kind]:
            raise TemplateError(
                f"cannot use the key {key!r} in {task.kind}",
                place=task.args_where.key(task.args, key, name=True),
                ref="unknown-key",
            )
    if task.kind == "set_fact":
        facts = {str(key): value for key, value in args.items() if key != "cacheable"}
        secret = hidden or bool(scope.touched)

        def remember() -> None:
            acts.variables.update(facts)
            if secret:
                acts.secrets.update(facts)

        return remember
    if task.kind == "debug":
        text = _said(_debug(task, args, scope, engine), scope, hidden)
        return lambda: acts.messages.append((task.title, text))
    if task.kind == "fail":
        message = _said(str(args.get("msg", "failed as requested by the task")), scope, hidden)
        return lambda: _fail(task, message)
    return _assert(task, args, scope, engine, hidden)


def undecided(task: Task, acts: Acts, unknown: str) -> Act:
    """What is done in a plan where the task needs a result of apply: debug says so, others wait for apply."""
    if task.kind == "set_fact":
        facts: dict[str, Any] = {}
        for key in task.args:
            facts[str(key)] = made = Result()
            made.unknown, made.opaque = unknown, True
        return lambda: acts.variables.update(facts)
    if task.kind == "debug":
        return lambda: acts.messages.append((task.title, "(known after apply)"))
    return lambda: None


def _debug(task: Task, args: dict[str, Any], scope: Scope, engine: Engine) -> str:
    from ..template.filters import to_nice_json

    if "var" in args:
        name = str(task.args["var"])
        value = engine.value(
            scope, name if is_template(name) else f"{{{{ {name} }}}}", task.args_where
        )
        if isinstance(value, Result) and value.unknown:
            raise UnknownResult(value.unknown)
        return f"{name}: {value if isinstance(value, str) else to_nice_json(value)}"
    message = args.get("msg", "Hello world!")
    return message if isinstance(message, str) else to_nice_json(message)


def _said(text: str, scope: Scope, hidden: bool) -> str:
    return "(hidden)" if hidden or scope.touched else text


def _assert(task: Task, args: dict[str, Any], scope: Scope, engine: Engine, hidden: bool) -> Act:
    that = task.args.get("that")
    conditions = that if isinstance(that, (list, tuple)) else [that]
    place = task.args_where.key(task.args, "that")
    given = args.get("fail_msg", args.get("msg"))
    given = _said(str(given), scope, hidden) if given else ""
    for condition in conditions:
        if not engine.condition(scope, condition, place):
            message = given or f"assertion failed: {condition}"
            return lambda: _fail(task, message)
    return lambda: None


def _fail(task: Task, message: str) -> None:
    raise HostctlError(
        f"cannot go on: {message}",
        where=str(task.where),
        ref="assertion" if task.kind == "assert" else "fail",
    )
