"""Runs on the controller: the variables of one host, rendered when they are looked up.

Jinja asks a `Scope` for each name. A variable whose value holds a template is rendered then, in the same
scope, so that variables may refer to each other in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hostctl_host.contract.errors import HostctlError

from ..yaml import Map, Place

MISSING = object()


class Deferred(Exception):
    """The value needs a fact or a registered result that is not there yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class UnknownResult(Exception):
    """The value needs a result that is known only after apply (plan mode)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class TemplateError(HostctlError):
    """A template that cannot be rendered. `place` is set by the innermost value that knows its own."""

    def __init__(
        self,
        message: str,
        *,
        place: Place | None = None,
        where: str = "",
        hint: str = "",
        ref: str = "template",
    ) -> None:
        super().__init__(message, where=where or (str(place) if place else ""), hint=hint, ref=ref)

    def at(self, place: Place) -> TemplateError:
        """The same error with a place, unless it has one."""
        if not self.where:
            self.where = str(place)
        return self


class Result(dict[str, Any]):
    """A registered result; attributes of an unknown one raise `UnknownResult` (see `Engine`).

    Attributes:
        unknown: the name of what is known only after apply.
        opaque: not even its type is known (a fact that is set from such a result).
    """

    unknown: str = ""
    opaque: bool = False


Render = Callable[["Scope", Any, Place], Any]


class Scope:
    """Names to values for one host (and one task, by `child`).

    Attributes:
        layers: raw variables, most binding first.
        slot: where `child` puts a task's variables (below extra variables, results and set_fact).
        pending: names that will exist later: results, and with `facts_pending` every `ansible_*`.
        secrets: names whose values are never shown.
        touched: those of them that were looked up, also through others, since somebody cleared it.
    """

    def __init__(
        self,
        layers: Iterable[Mapping[str, Any]],
        render: Render,
        *,
        slot: int = 0,
        final: Mapping[str, Any] | None = None,
        pending: set[str] | None = None,
        facts_pending: bool = False,
        secrets: set[str] | None = None,
        touched: set[str] | None = None,
    ) -> None:
        self.layers: list[Mapping[str, Any]] = list(layers)
        self.render = render
        self.final: Mapping[str, Any] = final or {}
        self.pending: set[str] = pending if pending is not None else set()
        self.facts_pending = facts_pending
        self.slot = slot
        self.secrets: set[str] = secrets if secrets is not None else set()
        self.touched: set[str] = touched if touched is not None else set()
        self._memo: dict[str, Any] = {}
        self._tainted: set[str] = set()
        self._busy: list[str] = []

    def child(self, variables: Mapping[str, Any], final: Mapping[str, Any] | None = None) -> Scope:
        """A scope with more binding variables (`final` ones are values, not templates)."""
        layers = (
            [*self.layers[: self.slot], variables, *self.layers[self.slot :]]
            if variables
            else self.layers
        )
        made = Scope(
            layers,
            self.render,
            slot=self.slot,
            final={**self.final, **(final or {})},
            pending=self.pending,
            facts_pending=self.facts_pending,
            secrets=self.secrets,
            touched=self.touched,
        )
        if not variables and not final:
            made._memo, made._tainted = self._memo, self._tainted
        return made

    def forget(self) -> None:
        """Variables changed (facts, results, set_fact): render anew."""
        self._memo.clear()

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not MISSING

    def __getitem__(self, name: str) -> Any:
        value = self.get(name)
        if value is MISSING:
            raise KeyError(name)
        return value

    def get(self, name: str) -> Any:
        """The rendered value, or MISSING. Raises Deferred, UnknownResult, TemplateError."""
        if name in self.final:
            return self.final[name]
        if name in self.secrets or name in self._tainted:
            self.touched.add(name)
        if name in self._memo:
            return self._memo[name]
        if name in self.pending:
            raise Deferred(name)
        for layer in self.layers:
            if name in layer:
                before = set(self.touched)
                self.touched.clear()
                self._memo[name] = value = self._rendered(name, layer)
                if self.touched:
                    self._tainted.add(name)
                self.touched.update(before, (name,) if name in self.secrets else ())
                return value
        if self.facts_pending and name.startswith("ansible_"):
            raise Deferred(name)
        return MISSING

    def _rendered(self, name: str, layer: Mapping[str, Any]) -> Any:
        raw = layer[name]
        if isinstance(raw, Result) and raw.opaque:
            raise UnknownResult(raw.unknown)
        if not isinstance(raw, (str, list, dict)) or isinstance(raw, Result):
            return raw
        if name in self._busy:
            chain = " -> ".join([*self._busy[self._busy.index(name) :], name])
            raise TemplateError(
                f"cannot render {name}: it refers to itself ({chain})", ref="template-loop"
            )
        self._busy.append(name)
        try:
            place = Place(path=name)
            if isinstance(layer, Map):
                place = Place(layer.file, layer.line, layer.column).key(layer, name)
            return self.render(self, raw, place)
        finally:
            self._busy.pop()

    def names(self) -> set[str]:
        """All names that can be looked up."""
        return {name for layer in self.layers for name in layer} | set(self.final)


class LazyVars(Mapping[str, Any]):
    """`hostvars[NAME]`: another host's variables, rendered in that host's scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __getitem__(self, key: str) -> Any:
        return self._scope[key]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._scope.names()))

    def __len__(self) -> int:
        return len(self._scope.names())


class HostVars(Mapping[str, Any]):
    """`hostvars`: every host of the inventory."""

    def __init__(self, names: Iterable[str], scope_of: Callable[[str], Scope]) -> None:
        self._names = list(names)
        self._scope_of = scope_of

    def __getitem__(self, key: str) -> Any:
        if key not in self._names:
            raise KeyError(key)
        return LazyVars(self._scope_of(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
