"""Runs on the controller: a resource before it has its id, and what a task's rendering gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hostctl_host.contract.document import Resource

from ..playbook.model import Task
from ..template.scope import Result


@dataclass(frozen=True)
class Draft:
    """One resource to be: everything but its id, with the digests of its content.

    Attributes:
        key: what comes after `KIND.` in the id.
        resource: with an empty id (the graph's have theirs already, their `needs` name them).
        final: the loop variables that a verdict needs again.
        implicit: nobody wrote it; once on a host is enough.
    """

    kind: str
    key: str
    resource: Resource
    digests: tuple[str, ...] = ()
    final: dict[str, Any] = field(default_factory=dict)
    item: Any = None
    unknown: bool = False
    implicit: bool = False


@dataclass(frozen=True)
class Rendered:
    """What one task became: resources, or an act on the controller (set_fact, debug, ...)."""

    drafts: tuple[Draft, ...] = ()
    act: Callable[[], None] | None = None
    looped: bool = False


@dataclass
class Registration:
    """A registered variable on its way: the results of all items are put together when they are in."""

    task: Task
    ids: list[str]
    items: list[Any]
    looped: bool
    secret: bool = False
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return all(one in self.results for one in self.ids)

    def value(self) -> dict[str, Any]:
        """The variable's value: one result, or Ansible's map with `results` for a loop."""
        if not self.looped:
            return self.results[self.ids[0]]
        results = []
        for name, item in zip(self.ids, self.items, strict=True):
            one = self.results[name]
            one.setdefault(self.task.loop_var, item)
            one["ansible_loop_var"] = self.task.loop_var
            results.append(one)
        unknown = next((one.unknown for one in results if one.unknown), "")
        if unknown:
            # whether any changed or failed is for those who ask to find out, item by item
            value = Result(results=results, msg="All items completed")
            value.unknown = unknown
            return value
        return {
            "results": results,
            "changed": any(one.get("changed", False) for one in results),
            "failed": any(one.get("failed", False) for one in results),
            "skipped": bool(results) and all(one.get("skipped", False) for one in results),
            "msg": "All items completed" if results else "No items in the list",
        }


def result_of(data: dict[str, Any], name: str) -> Result:
    """A result with the keys that Ansible's users expect; an unknown one knows its name."""
    result = Result(data)
    if result.pop("unknown", False) is True:
        result.unknown = name
        return result
    result.setdefault("changed", False)
    result.setdefault("failed", False)
    for stream in ("stdout", "stderr"):
        if isinstance(result.get(stream), str):
            result.setdefault(f"{stream}_lines", result[stream].splitlines())
    return result
