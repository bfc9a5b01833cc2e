"""Runs on the managed host: putting back what a project owns: orphans and `destroy`."""

from __future__ import annotations

from collections.abc import Mapping

from ..contract.change import Reason
from ..contract.document import Resource
from ..contract.errors import HostctlError
from . import kinds
from .executor import ORPHANS
from .graph import in_order
from .ledger import Entry
from .records import Records
from .step import Step

# Removed beside each other: each may take its grace period to stop. All else goes strictly backwards.
_BESIDE = "container"


def plan_removal(
    records: Records, names: Mapping[str, Entry], reason: Reason | None = None
) -> tuple[list[list[Step]], list[str]]:
    """Steps that put these back as they were found, and names that need only be forgotten.

    The steps come in groups to be done one after another: what is needed goes after what needs it, and
    otherwise the last one that was made goes first. `reason` replaces what the kinds say about removal.
    """
    needs = {
        name: tuple(other for other, entry in names.items() if name in entry.needs)
        for name in names
    }
    newest_first = sorted(names, key=lambda name: -names[name].order)
    ordered = in_order(newest_first, needs)
    groups: list[list[Step]] = []
    forgotten: list[str] = []
    for name in [*ordered, *(other for other in newest_first if other not in ordered)]:
        entry = names[name]
        if entry.undo is None or _used_elsewhere(records, name, entry):
            forgotten.append(name)
            continue
        why = reason if entry.created else Reason.UNDO
        step = Step(_resource(name, entry, needs[name]), reason=why, removal=True)
        if groups and entry.kind == _BESIDE == groups[-1][0].resource.kind:
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups, forgotten


def _used_elsewhere(records: Records, name: str, entry: Entry) -> bool:
    try:
        shared = kinds.is_shared(entry.kind)
    except HostctlError:
        return False  # its own step says that the kind is missing
    return shared and bool(records.ledger.others_with(name))


def _resource(name: str, entry: Entry, needs: tuple[str, ...]) -> Resource:
    return Resource(
        id=name,
        kind=entry.kind,
        spec=entry.undo or {},
        needs=needs,
        name=entry.name,
        section=ORPHANS,
        no_log=entry.no_log,
    )
