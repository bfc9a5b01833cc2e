"""Runs on the controller: a host outside of a play's batch that builds images for it (`on: HOST`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hostctl_host.contract.document import Document, document_to_json
from hostctl_host.contract.errors import HostctlError

from ..credentials import Logins
from ..fleet.dock import Dock
from ..fleet.yard import Yard
from ..inventory import Inventory, InventoryHost
from ..playbook.errors import Collector
from .content import Content
from .plays import CompiledPlay


class Builder:
    """What such a host is told: the images that others want from it, once they have said so.

    They belong to the project there as well: `destroy` removes them.
    """

    def __init__(
        self,
        host: InventoryHost,
        project: str,
        source: str,
        yard: Yard,
        content: Content,
        connection: dict[str, Any],
        logins: Logins,
    ) -> None:
        self.host = host
        self.project = project
        self.become = True
        self.connection = connection
        self.logins = logins
        self.dock = Dock(yard, host.name, helper=True)
        self.messages: list[tuple[str, str]] = []
        self._source = source
        self._content = content

    @property
    def name(self) -> str:
        """The host's name."""
        return self.host.name

    def facts(self, facts: dict[str, Any]) -> None:
        """Only the machine matters."""
        self.dock.machine = str(facts.get("architecture", ""))

    def first(self) -> dict[str, Any]:
        """The `document` frame. Waits until the hosts of the batch are there."""
        ordered = [replace(one, needs=(), optional=()) for one in self.dock.yard.orders(self.name)]
        resources = self.dock.assign(ordered)
        sizes = {
            digest: self._content.size(digest)
            for one in resources
            for digest in _listings(one.spec["build"])
        }
        document = Document(self.project, self._source, resources, content=sizes, partial=True)
        told = self.logins.for_images(resources)
        return {"type": "document", "document": document_to_json(document), **told}

    def blob(self, digest: str) -> bytes:
        """The bytes of a content blob."""
        return self._content.read(digest)

    def answer(self, frame: dict[str, Any]) -> None:
        """Nothing is registered there."""

    def verdict(self, frame: dict[str, Any]) -> dict[str, Any]:
        """There are no conditions to decide."""
        raise HostctlError(f"cannot judge {frame.get('id')}: it only builds", ref="protocol")

    def next(self) -> dict[str, Any]:
        """There are no further tasks."""
        raise HostctlError("cannot go on: there is nothing after a build", ref="protocol")

    def reply(self, frame: dict[str, Any]) -> dict[str, Any]:
        """The `answer` frame to a `question`."""
        return self.logins.reply(frame)


def builders_of(
    compiled: CompiledPlay, inventory: Inventory, errors: Collector
) -> list[InventoryHost]:
    """Hosts that the play's images name with `on:` and that are not in its first group."""
    first = {host.name for host in compiled.groups[0]} if compiled.groups else set()
    wanted: dict[str, str] = {}
    for program in compiled.programs.values():
        for name, where in program.builders().items():
            wanted.setdefault(name, where)
    found = []
    for name, where in wanted.items():
        if name in first:
            continue
        try:
            hosts = inventory.select(name, "on")
            if len(hosts) != 1:
                raise HostctlError(
                    f"cannot build on {name}: it is {len(hosts)} hosts",
                    hint="name one host, or localhost for this machine",
                    ref="build-host",
                )
            found += hosts
        except HostctlError as error:
            errors.take(HostctlError(error.message, where=where, hint=error.hint, ref=error.ref))
    return found


def _listings(build: dict[str, Any]) -> list[str]:
    """Digests of the contexts' listings (`contract/build.py`)."""
    from hostctl_host.contract.build import IMAGE

    named = (build.get("additional_contexts") or {}).values()
    return [one for one in (build.get("context"), *named) if one and not one.startswith(IMAGE)]
