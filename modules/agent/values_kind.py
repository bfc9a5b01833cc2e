"""Runs on the managed host: what the kinds secret and config have in common: look, compare, keep, remove."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..contract.change import Action, Change, Reason
from ..contract.document import digest
from ..contract.errors import HostctlError
from . import values
from .entries import as_text, text_diff
from .host import Host


@dataclass(frozen=True)
class Declared:
    """One secret or config as declared; `hidden`: its value is shown nowhere, and kept in memory only."""

    kind: str
    name: str
    digest: str
    hidden: bool
    external: bool
    labels: dict[str, str]
    state: str


@dataclass(frozen=True)
class Observed:
    """What the host has.

    Attributes:
        mark: of the value that is there (see `values.mark`); empty where it is lost.
        wanted: the mark that the declared value will have; empty while the host has no key.
        before, after: the contents, where they may be shown, are short, and differ.
    """

    present: bool
    mark: str = ""
    wanted: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    before: str | None = None
    after: str | None = None


def observe(declared: Declared, host: Host) -> Observed:
    """Record and value, compared by their marks.

    Raises:
        HostctlError: an external one is not there. (No kind's error: its words hold no value, and must be
            read although those of secrets are hidden.)
    """
    kind, name = declared.kind, declared.name
    found = values.record(host.paths, kind, name)
    if declared.external:
        return _external(declared, found, host)
    wanted = values.mark(host.paths, declared.digest, declared.hidden)
    if found is None:
        shown = _text(host, declared) if declared.digest and not declared.hidden else None
        return Observed(present=False, wanted=wanted, after=shown)
    data = values.read(host.paths, kind, name, bool(found["hidden"]))
    mark = ""
    if data is not None and bool(found["hidden"]) == declared.hidden:
        mark = values.mark(host.paths, digest(data), declared.hidden)
        mark = mark if mark == found["mark"] else ""
    before = after = None
    if declared.digest and not declared.hidden and not found["hidden"] and mark != wanted:
        before, after = as_text(data or b""), _text(host, declared)
    return Observed(True, mark, wanted, found.get("labels", {}), before, after)


def _text(host: Host, declared: Declared) -> str | None:
    data = host.blob(declared.digest)
    return as_text(data) if data else None


def _external(declared: Declared, found: dict[str, object] | None, host: Host) -> Observed:
    kind, name = declared.kind, declared.name
    if found is None:
        raise HostctlError(
            f"cannot use {kind} {name}: it is external and does not exist on this host",
            hint="apply the project that owns it first, or take `external` away",
            ref="external-missing",
        )
    if not values.at_hand(host.paths, kind, name):
        raise HostctlError(
            f"cannot use {kind} {name}: its value was lost with a reboot of this host",
            hint=f"apply the project that owns it: {found.get('project')}",
            ref="secret-missing",
        )
    return Observed(True, str(found["mark"]), str(found["mark"]))


def diff(declared: Declared, observed: Observed) -> list[Change]:
    """What has to change; an external one changes in nothing. Values of hidden ones are in none of it."""
    if declared.external:
        return []
    if declared.state == "absent":
        return [Change(Action.DELETE, reason=Reason.UNWANTED)] if observed.present else []
    before = observed.before if observed.present else ""
    text = "" if declared.hidden else text_diff(before, observed.after, declared.name)
    if not observed.present:
        made = Change(Action.CREATE, reason=Reason.ABSENT)
        if text:
            made = Change(Action.CREATE, "content", reason=Reason.ABSENT, diff=text)
        return [made]
    changes = []
    if not observed.mark or observed.mark != observed.wanted:
        note = "" if observed.mark else "it is not on this host; a reboot takes it away"
        changes.append(Change(Action.UPDATE, "content", diff=text, note=note))
    if observed.labels != declared.labels:
        changes.append(Change(Action.UPDATE, "labels", observed.labels, declared.labels))
    return changes


def apply(declared: Declared, host: Host) -> dict[str, str] | None:
    """Store it, or remove it.

    Raises:
        HostctlError: the disk says no.
    """
    try:
        if declared.state == "absent":
            values.remove(host.paths, declared.kind, declared.name)
            return None
        values.store(
            host.paths,
            declared.kind,
            declared.name,
            host.blob(declared.digest),
            hidden=declared.hidden,
            labels=declared.labels,
            project=host.project,
        )
    except OSError as error:
        raise HostctlError(
            f"cannot keep {declared.kind} {declared.name}: {error.strerror}",
            hint="see the space and the rights of hostctl's data and run folders",
            ref="system-error",
        ) from error
    return {"name": declared.name}
