"""Runs on the managed host: results whose changed and failed the controller decides."""

from __future__ import annotations

import threading
from typing import Any

from ..contract.document import Resource
from .channel import Channel, ControllerGone


class Verdicts:
    """Asks with a `result` frame and waits for the `verdict` of the same id."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._given: dict[str, dict[str, Any]] = {}
        self._arrived = threading.Condition()
        channel.on("verdict", self._take)
        channel.on_gone(self._wake)

    def ask(self, resource: Resource, result: dict[str, Any]) -> dict[str, Any]:
        """The controller's `changed`, `failed` and `message`; raises ControllerGone if it left."""
        self._channel.send(
            "result", id=resource.id, register=resource.register, result=result, verdict=True
        )
        with self._arrived:
            self._arrived.wait_for(lambda: resource.id in self._given or self._channel.gone)
            if resource.id not in self._given:
                raise ControllerGone
            return self._given.pop(resource.id)

    def _take(self, header: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        with self._arrived:
            self._given[header["id"]] = header
            self._arrived.notify_all()

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()
