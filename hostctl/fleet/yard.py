"""Runs on the controller: what the hosts of one play build for each other: who builds what, and what came of it.

Which host builds is decided when the hosts are there: the first in the play's order that could be reached, among
those that want the same. It is known before anything is looked at, so that a plan and an apply say the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hostctl_host.contract.document import Resource
from hostctl_host.contract.errors import HostctlError

from .depot import Depot
from .session import Options, Session
from .spool import Spool
from .target import Target

Key = tuple[str, str, str]
"""Image, digest of its build, machine: hosts that agree in all three share one build."""


@dataclass(frozen=True)
class Wanted:
    """One image that a host builds or gets.

    Attributes:
        build: digest of everything that decides what it becomes.
        on: the host that has to build it; empty: any.
        resource: how it was declared.
    """

    name: str
    build: str
    on: str = ""
    resource: Resource | None = field(default=None, compare=False, repr=False)


@dataclass
class _Guest:
    """A host of the play, as far as it is known. `wants` is None until it said; a helper wants what others do."""

    coming: bool = False
    helper: bool = False
    machine: str = ""
    wants: dict[str, Wanted] | None = None
    target: Target | None = None
    options: Options | None = None


@dataclass
class _Offer:
    """What a builder has told of an image."""

    found: dict[str, Any] = field(default_factory=dict)
    final: bool = False
    error: str = ""
    hint: str = ""

    def frame(self, image: str) -> dict[str, Any]:
        told = {key: self.found.get(key) for key in ("id", "pinned", "why", "layers")}
        failure = {"error": self.error, "hint": self.hint} if self.error else {}
        return {"type": "offer", "image": image, "final": self.final, **told, **failure}


class Yard:
    """One play's. All methods may be called from any thread.

    Args:
        order: the hosts of the play, in its order.
    """

    def __init__(self, order: Iterable[str]) -> None:
        self._guests: dict[str, _Guest] = {name: _Guest() for name in order}
        self._elected: dict[Key, str] = {}
        self._offers: dict[tuple[str, str], _Offer] = {}
        self._depots: dict[tuple[str, str], Depot] = {}
        self._spent: list[Depot] = []
        self._spools: dict[str, dict[str, Spool]] = {}
        self._news = threading.Condition()

    # who is there

    def expect(self, host: str, *, helper: bool = False) -> None:
        """It is about to be reached; a helper only builds what others want from it."""
        with self._news:
            guest = self._guests.setdefault(host, _Guest())
            guest.coming, guest.helper, guest.wants = True, helper, None

    def enter(self, host: str, target: Target, options: Options) -> None:
        """How it is reached, also for what is fetched from it later."""
        with self._news:
            guest = self._guests[host]
            guest.target, guest.options = target, options

    def arrive(self, host: str, machine: str, wants: Iterable[Wanted]) -> None:
        """It was reached and says what it wants; more may follow."""
        with self._news:
            guest = self._guests[host]
            guest.machine = machine
            guest.wants = {**(guest.wants or {}), **{one.name: one for one in wants}}
            self._news.notify_all()

    def leave(self, host: str) -> None:
        """It is done, or could not be reached: what it has not built by now it does not build."""
        with self._news:
            self._guests[host].coming = False
            for key, builder in list(self._elected.items()):
                offer = self._offers.setdefault((builder, key[0]), _Offer())
                if builder == host and (not offer.final or offer.error):
                    del self._elected[key]
                    self._finish(
                        offer, f"{host}, which builds it, did not get that far", f"see {host}"
                    )
            self._news.notify_all()

    # who builds

    def builder(self, host: str, wanted: Wanted) -> str:
        """The host that builds this for `host`. Waits for those that come before it.

        Raises:
            HostctlError: the one that was named cannot.
        """
        with self._news:
            if wanted.on:
                return self._named(host, wanted)
            key = (wanted.name, wanted.build, self._guests[host].machine)
            for other, guest in self._guests.items():
                if other == host or key in self._elected:
                    break
                self._news.wait_for(lambda guest=guest: self._is_known(guest))  # type: ignore[misc]
                same = (guest.wants or {}).get(wanted.name)
                if guest.coming and same == wanted and guest.machine == key[2]:
                    self._elected.setdefault(key, other)
            return self._elected.setdefault(key, host)

    def _named(self, host: str, wanted: Wanted) -> str:
        name, on = wanted.name, wanted.on
        guest = self._guests.get(on)
        if guest is None:
            raise HostctlError(
                f"cannot build {name} on {on}: it is known too late that this host is needed",
                hint="write `on` without anything that depends on a task's result",
                ref="ship-late",
            )
        if on != host:
            self._news.wait_for(lambda: self._is_known(guest))
            own = (guest.wants or {}).get(name)
            if own is not None and own.build != wanted.build:
                raise HostctlError(
                    f"cannot build {name} on {on} for {host}: they want different builds under this name",
                    hint="give them different names, or leave out what differs between the hosts",
                    ref="ship-differs",
                )
            mine = self._guests[host].machine
            if guest.machine and guest.machine != mine:
                raise HostctlError(
                    f"cannot build {name} on {on} for {host}: one is {guest.machine}, the other {mine}",
                    hint="leave `on` out: then one host of each architecture builds it",
                    ref="ship-machine",
                )
        self._elected.setdefault((name, wanted.build, ""), on)
        return on

    @staticmethod
    def _is_known(guest: _Guest) -> bool:
        return not guest.coming or guest.wants is not None

    def orders(self, host: str) -> list[Resource]:
        """What others want built on `host`, once all that are coming have said so; of one name the first."""
        with self._news:
            others = [guest for guest in self._guests.values() if not guest.helper]
            self._news.wait_for(lambda: all(self._is_known(guest) for guest in others))
            found: dict[str, Resource] = {}
            for guest in others:
                for one in (guest.wants or {}).values():
                    if one.on == host and one.resource is not None:
                        found.setdefault(one.name, one.resource)
            return list(found.values())

    # what came of it

    def offered(self, host: str, image: str, found: dict[str, Any]) -> None:
        """The builder has looked."""
        with self._news:
            offer = self._offers.setdefault((host, image), _Offer())
            if found.get("error"):
                self._finish(offer, f"it cannot be built on {host}", f"see {host}")
            else:
                offer.found = found
            self._news.notify_all()

    def finished(self, host: str, image: str, state: str) -> None:
        """The builder is done with it: `ok`, `changed`, `failed` or `skipped`."""
        with self._news:
            offer = self._offers.setdefault((host, image), _Offer())
            if state in ("ok", "changed"):
                offer.final = True
            else:
                word = "failed" if state == "failed" else "was not begun"
                self._finish(offer, f"its build on {host} {word}", f"see {host}")
            self._news.notify_all()

    def _finish(self, offer: _Offer, error: str, hint: str) -> None:
        offer.final = True
        offer.error, offer.hint = offer.error or error, offer.hint or hint

    def offer(
        self, builder: str, image: str, final: bool, stopped: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """The `offer` frame for those that get it, once there is one; None where it is stopped before."""

        def there() -> bool:
            offer = self._offers.get((builder, image))
            known = offer is not None and (offer.final or bool(not final and offer.found))
            return known or stopped()

        with self._news:
            while not there():
                self._news.wait(1.0)
            if stopped():
                return None
            return self._offers[builder, image].frame(image)

    # getting it

    def depot(self, builder: str, image: str) -> Depot:
        """Where the image comes from. Raises HostctlError."""
        with self._news:
            guest = self._guests[builder]
            target, options = guest.target, guest.options
            if target is None or options is None:
                raise HostctlError(f"cannot get {image}: {builder} was not reached")
            depot = self._depots.get((builder, image))
            if depot is not None and depot.failed:
                self._spent.append(depot)
                depot = None
            if depot is None:
                depot = Depot(
                    builder,
                    image,
                    lambda: Session.open(target, "store", options),
                    self._spools.setdefault(builder, {}),
                )
                self._depots[builder, image] = depot
            return depot

    def close(self) -> None:
        """The run is over."""
        with self._news:
            depots, spools = [*self._spent, *self._depots.values()], list(self._spools.values())
        for depot in depots:
            depot.close()
        for some in spools:
            for spool in some.values():
                spool.close()
