"""Runs on the controller: one host's place in the exchange of images: what it builds, what it gets, what it pins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from hostctl_host.contract.document import Resource, canonical, digest

from .courier import Courier
from .depot import Depot
from .session import Options, Session
from .target import Target
from .yard import Wanted, Yard

_FINISHED = ("ok", "changed", "failed", "skipped")
GRAPH = "graph"


class Dock:
    """The host `name` in a play's yard.

    Args:
        helper: it only builds what others want from it.
        on_pin: is told host, image and the digest that its tag stands for, as the host found it.
    """

    def __init__(
        self,
        yard: Yard,
        name: str,
        *,
        helper: bool = False,
        on_pin: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self.name = name
        self.yard = yard
        self._helper = helper
        self._on_pin = on_pin
        self.machine = ""
        self._built: dict[str, str] = {}  # resource -> image
        self._from: dict[str, str] = {}  # image -> the host that builds it
        self._courier: Courier | None = None
        self._session: Session | None = None

    # around a session

    def expect(self) -> None:
        """It is about to be reached."""
        self.yard.expect(self.name, helper=self._helper)

    def enter(self, target: Target, options: Options) -> None:
        """How it is reached."""
        self.yard.enter(self.name, target, options)

    def leave(self) -> None:
        """Its session is closed."""
        self.yard.leave(self.name)
        if self._courier is not None:
            self._courier.close()

    # what it is told

    def assign(self, resources: Iterable[Resource]) -> tuple[Resource, ...]:
        """The resources, each image that is built marked: built here, for others too, or had from a host.

        Builds come first: no host waits for another before it has begun its own.
        """
        listed = list(resources)
        wanted = {one.id: _wanted(one) for one in listed if is_shared_build(one)}
        self.yard.arrive(self.name, self.machine, wanted.values())
        out = [self._assigned(one, wanted[one.id]) if one.id in wanted else one for one in listed]
        return tuple(sorted(out, key=lambda one: one.kind == "image" and bool(one.spec.get("on"))))

    def _assigned(self, resource: Resource, wanted: Wanted) -> Resource:
        builder = self.yard.builder(self.name, wanted)
        spec = {key: value for key, value in resource.spec.items() if key != "on"}
        if builder == self.name:
            self._built[resource.id] = wanted.name
            return replace(resource, spec={**spec, "shared": True})
        self._from[wanted.name] = builder
        return replace(resource, spec={**spec, "on": builder})

    # what it says

    def frame(self, session: Session, header: dict[str, Any]) -> bool:
        """Take a frame of its agent; False where it is for others, too."""
        match header["type"]:
            case "offer":
                if header["image"] in self._built.values():
                    self.yard.offered(self.name, header["image"], header)
                elif header.get("pinned") and self._on_pin is not None:
                    self._on_pin(self.name, header["image"], header["pinned"])
                return True
            case "progress":
                if header.get("id") in self._built and header.get("state") in _FINISHED:
                    self.yard.finished(self.name, self._built[header["id"]], header["state"])
                return False
            case "ask":
                courier = self._courier_of(session)
                images, final = list(header["images"]), bool(header.get("final"))
                courier.begin(lambda: self._answer(session, courier, images, final))
                return True
            case "ship" | "fetch" | "enough":
                return self._courier_of(session).frame(header)
        return False

    def _courier_of(self, session: Session) -> Courier:
        if self._courier is None or self._session is not session:
            self._courier, self._session = Courier(session, self._depot_of), session
        return self._courier

    def _depot_of(self, image: str) -> Depot:
        return self.yard.depot(self._from[image], image)

    def _answer(self, session: Session, courier: Courier, images: list[str], final: bool) -> None:
        for image in images:
            frame = self.yard.offer(self._from[image], image, final, lambda: courier.stopped)
            if frame is None:
                return
            session.send(frame)


def is_shared_build(resource: Resource) -> bool:
    """Whether it is an image of the play's sections that is built: tasks build where they are."""
    return (
        resource.kind == "image"
        and resource.section == GRAPH
        and bool(resource.spec.get("build"))
        and resource.spec.get("state", "present") == "present"
    )


def _wanted(resource: Resource) -> Wanted:
    spec = {key: value for key, value in resource.spec.items() if key != "on"}
    on = str(resource.spec.get("on") or "")
    return Wanted(str(spec["name"]), digest(canonical(spec)), on, resource)
