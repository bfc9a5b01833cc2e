"""Runs on the managed host: images that one host of a run makes and the others get, by way of the controller.

The host that builds tells what it found, and what came of it. The others ask for that, and are then sent the
blobs that they lack. All of it goes over the run's own session (docs/architecture.md, the wire).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ..contract.errors import HostctlError
from .channel import Channel, ControllerGone

PATIENCE = 300.0
"""Seconds without a byte after which a shipment has failed; how long a build takes does not matter."""

Sink = Callable[[str, int, bytes], None]
"""Takes digest, offset and bytes of a piece, in the channel's reading thread."""


class Exchange:
    """This host's part. Threads may use it at the same time.

    Attributes:
        told: what this host has told last, by image.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.told: dict[str, dict[str, Any]] = {}
        self._offers: dict[str, dict[str, Any]] = {}
        self._shipments: dict[str, dict[str, Any]] = {}
        self._sinks: dict[str, Sink] = {}
        self._failed: dict[str, HostctlError] = {}
        self._pieces = 0
        self._news = threading.Condition()
        self._writing = (
            threading.Lock()
        )  # held while a sink is at work, so that none is closed under it
        for kind, take in (
            ("offer", self._take_offer),
            ("shipment", self._take_shipment),
            ("piece", self._take_piece),
        ):
            channel.on(kind, take)
        channel.on_gone(self._wake)

    def tell(self, image: str, **found: Any) -> None:
        """What this host found of an image that others get from it, or that is to be pinned."""
        self.told[image] = found
        self._channel.send("offer", image=image, **found)

    def known(self, image: str) -> dict[str, Any] | None:
        """What the other host has told last; None before `ask`."""
        return self._offers.get(image)

    def ask(self, images: Iterable[str], *, final: bool = False) -> None:
        """Wait until the others have looked at these images; with `final`, until they are done with them.

        Raises:
            ControllerGone: it left before.
        """
        names = sorted(set(images))
        if final:
            names = [name for name in names if not self._is_final(name)]
        if not names:
            return
        self._channel.send("ask", images=names, final=final)
        with self._news:
            self._news.wait_for(
                lambda: (
                    self._channel.gone
                    or all(
                        self._is_final(name) if final else name in self._offers for name in names
                    )
                )
            )
        self._channel.stop_if_gone()

    def open(self, image: str) -> dict[str, Any]:
        """Begin to get the image: `raw`, `digest`, `media_type` of its manifest, `pinned`, `source`.

        Raises:
            HostctlError: it cannot be had.
        """
        with self._news:
            self._shipments.pop(image, None)
        self._channel.send("ship", image=image)
        with self._news:
            while image not in self._shipments:
                if self._channel.gone:
                    raise ControllerGone
                if not self._news.wait(PATIENCE):
                    raise _stalled(image)
            shipment = self._shipments.pop(image)
        if shipment.get("error"):
            raise _failure(shipment)
        return shipment

    def want(self, image: str, blobs: Mapping[str, int], sink: Sink) -> None:
        """Ask for blobs of an opened image: digest -> the byte to begin with; `sink` takes them in this order."""
        with self._writing:
            self._sinks[image] = sink
            self._failed.pop(image, None)
        self._channel.send("fetch", image=image, blobs=list(blobs.items()))

    def wait(self, image: str, arrived: Callable[[], bool]) -> None:
        """Wait until this is true; it is asked after each piece.

        Raises:
            HostctlError: the source failed, a piece could not be kept, or nothing came for minutes.
        """
        with self._news:
            while not arrived():
                if image in self._failed:
                    raise self._failed[image]
                if self._channel.gone:
                    raise ControllerGone
                seen = self._pieces
                if not self._news.wait(PATIENCE) and seen == self._pieces:
                    raise _stalled(image)

    def enough(self, image: str) -> None:
        """Nothing more of this image is wanted."""
        with self._writing:
            unfinished = self._sinks.pop(image, None) is not None
        if unfinished:
            self._channel.send("enough", image=image)

    def _is_final(self, image: str) -> bool:
        return bool((self._offers.get(image) or {}).get("final"))

    def _take_offer(self, header: dict[str, Any], _: bytes) -> None:
        with self._news:
            self._offers[header["image"]] = header
            self._news.notify_all()

    def _take_shipment(self, header: dict[str, Any], _: bytes) -> None:
        with self._news:
            self._shipments[header["image"]] = header
            self._news.notify_all()

    def _take_piece(self, header: dict[str, Any], body: bytes) -> None:
        image = header["image"]
        error: HostctlError | None = None
        with self._writing:
            sink = self._sinks.get(image)
            if sink is None:
                return  # it was on its way when it was no longer wanted
            if header.get("error"):
                error = _failure(header)
            else:
                try:
                    sink(header["digest"], header["offset"], body)
                except HostctlError as problem:
                    error = problem
        with self._news:
            self._pieces += 1
            if error is not None:
                self._failed[image] = error
            self._news.notify_all()

    def _wake(self) -> None:
        with self._news:
            self._news.notify_all()


def _failure(header: Mapping[str, Any]) -> HostctlError:
    return HostctlError(str(header["error"]), hint=str(header.get("hint", "")), ref="ship-failed")


def _stalled(image: str) -> HostctlError:
    return HostctlError(
        f"cannot get {image}: nothing came for {PATIENCE:g} s",
        hint="the host that it comes from, or the network, hangs; what came is kept: run it again",
        ref="ship-stalled",
    )
