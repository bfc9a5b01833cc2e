"""Runs on the controller: brings blobs from depots to one host, beside whatever else its session does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hostctl_host.contract.errors import HostctlError

from .depot import Depot
from .session import Session

_GRACE = 5.0


class Courier:
    """One host's. What takes time has a thread of its own, so that the session's other frames go on.

    Args:
        depot_of: where the image of a name comes from. May wait; raises HostctlError.
    """

    def __init__(self, session: Session, depot_of: Callable[[str], Depot]) -> None:
        self._session = session
        self._depot_of = depot_of
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._enough: set[str] = set()

    def frame(self, header: dict[str, Any]) -> bool:
        """Do what a `ship`, `fetch` or `enough` frame asks for; False for other frames."""
        match header["type"]:
            case "ship":
                self._enough.discard(header["image"])
                self.begin(lambda: self._ship(header["image"]))
            case "fetch":
                self.begin(lambda: self._fetch(header["image"], header["blobs"]))
            case "enough":
                self._enough.add(header["image"])
            case _:
                return False
        return True

    def begin(self, work: Callable[[], None]) -> None:
        """Do this in a thread that `close` waits for."""
        thread = threading.Thread(
            target=self._guarded,
            args=(work,),
            name=f"ship-{self._session.target.name}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    @property
    def stopped(self) -> bool:
        """Whether the host's session is over."""
        return self._stopped.is_set()

    def close(self) -> None:
        """Nothing more is sent. The session is closed already, so that no thread waits for it."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_GRACE)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HostctlError:
            self._stopped.set()  # the host cannot be written to: who reads from it says so

    def _ship(self, image: str) -> None:
        try:
            depot = self._depot_of(image)
            told = {**depot.manifest(), "host": depot.host}
        except HostctlError as error:
            told = {"error": error.message, "hint": error.hint}
        self._session.send({"type": "shipment", "image": image, **told})

    def _fetch(self, image: str, blobs: list[tuple[str, int]]) -> None:
        try:
            depot = self._depot_of(image)
            spools = [(digest, offset, depot.blob(digest, offset)) for digest, offset in blobs]
            for digest, offset, spool in spools:
                while offset < spool.size:
                    piece = spool.read(offset, lambda: self._is_over(image))
                    if not piece:
                        return
                    header = {"type": "piece", "image": image, "digest": digest, "offset": offset}
                    self._session.send(header, piece)
                    offset += len(piece)
        except HostctlError as error:
            told = {"image": image, "error": error.message, "hint": error.hint}
            self._session.send({"type": "piece", **told})

    def _is_over(self, image: str) -> bool:
        return self._stopped.is_set() or image in self._enough
