"""Runs on the managed host: one resource of a run: looked at, compared, changed, looked at again."""

from __future__ import annotations

import errno
import os
import sys
import threading
from dataclasses import dataclass, field, replace
from typing import Any

from ..contract.change import Action, Change, Reason
from ..contract.document import Resource
from ..contract.errors import CannotApply, CannotObserve, HostctlError
from ..contract.report import Failure, Outcome, Status
from . import kinds
from .channel import Channel, ControllerGone
from .content import Content
from .host import Host
from .records import Records

HIDDEN = "(hidden)"


@dataclass
class Step:
    """A resource with what is known about it so far.

    Attributes:
        seen: the number of acts of this run that came before the last look.
        reason: replaces the kind's reason (a handler is notified, an orphan no longer declared).
        removal: its spec is an undo: once done, the project does not own the resource.
        acted: something was done for it, perhaps only half.
        judged: the controller has its result and has said whether that is a failure.
    """

    resource: Resource
    reason: Reason | None = None
    removal: bool = False
    kind: Any = None
    spec: Any = None
    observed: Any = None
    changes: list[Change] = field(default_factory=list)
    error: HostctlError | None = None
    seen: int = -1
    acted: bool = False
    judged: bool = False
    outcome: Outcome | None = None
    failure: Failure | None = None

    @property
    def failed(self) -> bool:
        """Failed in a way that counts."""
        return self.failure is not None and not self.failure.ignored

    @property
    def changed(self) -> bool:
        return self.outcome is not None and self.outcome.status is Status.CHANGED


@dataclass
class Run:
    """What the steps of one run share. `acts` counts what was done to the host."""

    host: Host
    channel: Channel
    content: Content
    records: Records
    acts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def look(run: Run, step: Step) -> None:
    """Observe and diff; what goes wrong is kept in `step.error`."""
    step.seen = run.acts
    step.changes, step.error = [], None
    try:
        if step.kind is None:
            step.kind = kinds.load(step.resource.kind)
            step.spec = kinds.spec_of(step.kind, step.resource.spec)
            if not step.removal:
                run.records.claim(step)
            if step.resource.no_log and step.resource.kind not in kinds.KEPT_ELSEWHERE:
                run.content.mark_secret(kinds.content_of(step.kind, step.spec))
        step.observed = step.kind.observe(step.spec, run.host)
        step.changes = [_adorn(step, change) for change in step.kind.diff(step.spec, step.observed)]
    except ControllerGone:
        raise
    except Exception as error:
        step.error = _explain(step, error, CannotObserve, "look at")
    run.host.observations[step.resource.id] = step.observed
    run.host.changes[step.resource.id] = step.changes


def change(run: Run, step: Step) -> dict[str, Any]:
    """Apply the step's changes, and look again.

    Returns:
        The result that `register` gets: `changed`, `failed`, and what the kind returned.
    Raises:
        HostctlError: it failed.
    """
    resource = step.resource
    run.channel.stop_if_gone()
    run.channel.send("progress", id=resource.id, state="apply", message="")
    try:
        if not step.removal:
            run.records.contact((step,), run.host)
        run.content.fetch(kinds.content_of(step.kind, step.spec))
        run.records.begin(step)
        step.acted = True
        returned = step.kind.apply(step.spec, step.observed, step.changes, _host_for(run, step))
    except ControllerGone:
        raise
    except Exception as error:
        raise _explain(step, error, CannotApply, "apply") from error
    finally:
        with run.lock:
            run.acts += 1
    return {"changed": True, "failed": False, **(returned or {})}


def check(run: Run, step: Step) -> None:
    """Look again after an act, and raise unless it is now as declared. What only runs is never "so"."""
    done = step.changes
    look(run, step)
    left, error = step.changes, step.error
    step.changes = done
    run.host.changes[step.resource.id] = done
    if error is not None:
        raise error
    for item in left:
        if item.action is not Action.RUN and item.certain:
            raise CannotApply(
                f"cannot bring {step.resource.id} to what is declared: it did not converge: "
                f"{_describe(item)}",
                hint="something on the host changes it back, or the kind has a bug",
                ref="not-converged",
            )


def _describe(item: Change) -> str:
    name = item.field or item.action.value
    if item.before is None and item.after is None:
        return name
    return f"{name} is {item.before!r} instead of {item.after!r}"


def _adorn(step: Step, item: Change) -> Change:
    """The kind's change in the words of this run: reason, doubt, secrecy."""
    if step.reason is not None and (
        step.reason is not Reason.NOTIFIED or item.reason is Reason.ALWAYS
    ):
        item = replace(item, reason=step.reason)
    if step.resource.maybe:
        item = replace(item, certain=False)
    if step.resource.no_log:
        item = replace(
            item,
            before=None if item.before is None else HIDDEN,
            after=None if item.after is None else HIDDEN,
            diff="",
        )
    return item


def _host_for(run: Run, step: Step) -> Host:
    """The host with a `progress` that names this resource: steps run beside each other."""

    def progress(message: str) -> None:
        run.channel.send("progress", id=step.resource.id, state="apply", message=message)

    return replace(run.host, progress=progress)


def _explain(step: Step, error: Exception, kind: type[HostctlError], verb: str) -> HostctlError:
    """Any exception as one line; where an unexpected one came from goes to stderr if asked for."""
    if isinstance(error, HostctlError):
        return error
    if os.environ.get("HOSTCTL_DEBUG"):
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    start = f"cannot {verb} {step.resource.id}"
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename and not step.resource.no_log else ""
        hint = ""
        if error.errno == errno.ENOSPC:
            hint = "free some space on the host, then apply again"
        elif error.errno in (errno.EACCES, errno.EPERM):
            hint = "set `become: true`"
        return kind(f"{start}: {error.strerror}{place}", hint=hint, ref="system-error")
    text = type(error).__name__
    if not step.resource.no_log:
        text += f": {error}"
    line = " ".join(f"{start}: {text}".split())
    return kind(line, hint="set HOSTCTL_DEBUG=1 to see where it comes from", ref="kind-crashed")
