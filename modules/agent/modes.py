"""Runs on the managed host: the one place where plan and apply part: what happens to a step that differs.

Everything before it (looking, comparing, order, what depends on what) is the same code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..contract.change import UNKNOWN, Action, Change, Reason
from ..contract.errors import HostctlError, Impossible
from . import kinds
from .handlers import HANDLERS, name_of
from .step import Run, Step, change, look


@dataclass(frozen=True)
class Result:
    """How a step that differed ended: what `register` gets, and whether anything was, or will be, changed."""

    register: dict[str, Any]
    changed: bool = True


class Unsuccessful(HostctlError):
    """The kind said so in its result, which `register` still gets."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message, ref="task-failed")
        self.result = result


class Mode(Protocol):
    """What a run does with steps."""

    def expect(self, digests: Iterable[str]) -> None:
        """Content that differing steps will need."""

    def prepare(self, steps: Sequence[Step]) -> None:
        """These are next."""

    def renew(self, step: Step) -> None:
        """What the step needs has changed since it was looked at."""

    def await_others(self, step: Step, name: str) -> None:
        """Another host makes `name` for it."""

    def act(self, step: Step) -> Result:
        """The step differs from what is declared. Raises HostctlError where it fails."""

    def blind(self, step: Step, upset: bool) -> Result:
        """The step could not be observed; `upset`: something before it changes. Raises its error."""

    def ended(self, step: Step, changed: bool) -> None:
        """The step is as declared."""


class Apply:
    """Changes the host, and writes down what it is about to do before it does it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def expect(self, digests: Iterable[str]) -> None:
        self._run.content.ask(digests)

    def prepare(self, steps: Sequence[Step]) -> None:
        """Record how to put all of these back, with one write; whose `undo` fails says so at its turn."""
        due = [(step.kind, step.spec) for step in steps if step.changes]
        kinds.prepare(due, self._run.host)
        contact = self._run.records.contact
        try:
            contact(steps, self._run.host)
        except Exception:
            for step in steps:
                try:
                    contact((step,), self._run.host)
                except Exception:
                    continue

    def renew(self, step: Step) -> None:
        look(self._run, step)

    def await_others(self, step: Step, name: str) -> None:
        exchange = self._run.host.exchange
        if exchange is not None:
            exchange.ask((name,), final=True)
        look(self._run, step)

    def act(self, step: Step) -> Result:
        result = change(self._run, step)
        if not result["failed"] or step.resource.verdict:
            return Result(result, bool(result["changed"]))
        raise Unsuccessful(str(result.get("msg") or f"cannot apply {step.resource.id}"), result)

    def blind(self, step: Step, upset: bool) -> Result:  # noqa: ARG002
        assert step.error is not None
        raise step.error

    def ended(self, step: Step, changed: bool) -> None:
        run, resource = self._run, step.resource
        if step.acted:
            run.records.end(step, changed)
        if step.removal:
            run.records.removed(resource.id)
        if resource.section == HANDLERS:
            run.records.ran(name_of(resource))
        if resource.kind in kinds.KEPT_ELSEWHERE and step.acted:
            run.content.forget(kinds.content_of(step.kind, step.spec))


class Plan:
    """Says what apply would do; nothing here is able to do it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def expect(self, digests: Iterable[str]) -> None:
        """No content is needed beyond what text diffs asked for."""

    def prepare(self, steps: Sequence[Step]) -> None:
        """Nothing will be touched."""

    def renew(self, step: Step) -> None:
        """Nothing has run, so there is nothing new to see."""

    def await_others(self, step: Step, name: str) -> None:
        """The other host makes nothing either."""

    def act(self, step: Step) -> Result:  # noqa: ARG002
        return Result({"unknown": True})

    def blind(self, step: Step, upset: bool) -> Result:
        assert step.error is not None
        if not upset or isinstance(step.error, Impossible):
            raise step.error
        doubt = Change(
            Action.UPDATE,
            after=UNKNOWN,
            reason=Reason.DEPENDENCY,
            certain=False,
            note=step.error.message,
        )
        step.changes, step.error = [doubt], None
        return Result({"unknown": True})

    def ended(self, step: Step, changed: bool) -> None:
        """Nothing was done."""
