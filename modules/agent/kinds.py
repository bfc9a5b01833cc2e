"""Runs on the managed host: kinds, found by their name and loaded when a document first needs them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from ..contract.errors import HostctlError
from ..contract.fields import FieldError
from ..contract.spec import decode
from .host import Host

_PACKAGE = __package__.rpartition(".")[0]
# Things that a host has once and any number of projects may use.
_SHARED = ("image", "package")
# Their content is kept in a better place (the image store) once they are applied.
KEPT_ELSEWHERE = ("image",)


def load(kind: str) -> Any:
    """The module of the kind.

    Raises:
        HostctlError: there is none, or it is no kind.
    """
    module = None
    if kind.isidentifier():
        try:
            module = importlib.import_module(f"{_PACKAGE}.{kind}")
        except ModuleNotFoundError as error:
            if error.name != f"{_PACKAGE}.{kind}":
                raise
    needed = ("Spec", "observe", "diff", "apply")
    if module is None or not all(hasattr(module, name) for name in needed):
        raise HostctlError(
            f"cannot handle kind {kind}: the agent has no such kind",
            hint=f"a kind of your own is a file modules/{kind}.py beside the playbook",
            ref="kind-unknown",
        )
    return module


def spec_of(module: Any, data: dict[str, Any]) -> Any:
    """The kind's `Spec` from a document or a ledger.

    Raises:
        HostctlError: another version of hostctl wrote it.
    """
    try:
        return decode(module.Spec, data)
    except (TypeError, FieldError) as error:
        raise HostctlError(
            f"cannot read a spec of kind {module.__name__.rpartition('.')[2]}: {error}",
            hint="another version of hostctl wrote it; use that version, or apply with this one",
            ref="spec-unknown-field",
        ) from error


def content_of(module: Any, spec: Any) -> tuple[str, ...]:
    """Digests of the blobs that this spec needs."""
    return tuple(module.content(spec)) if hasattr(module, "content") else ()


def awaited(module: Any, spec: Any) -> str:
    """What another host of the run makes for this spec first; empty: nothing."""
    return str(module.awaited(spec)) if hasattr(module, "awaited") else ""


def prepare(wanted: Iterable[tuple[Any, Any]], host: Host) -> None:
    """Let each kind begin what takes time and will be needed: these specs are about to be applied.

    Args:
        wanted: pairs of a kind's module and a spec.
    """
    by_kind: dict[Any, list[Any]] = {}
    for module, spec in wanted:
        if hasattr(module, "prepare"):
            by_kind.setdefault(module, []).append(spec)
    for module, specs in by_kind.items():
        module.prepare(specs, host)


def is_shared(kind: str) -> bool:
    """Whether several projects may have the same resource of this kind."""
    return kind in _SHARED or bool(getattr(load(kind), "SHARED", False))
