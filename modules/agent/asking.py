"""Runs on the managed host: questions that only the controller can answer, asked in the middle of the work.

A login that a credential helper keeps, what a signature is worth. Any thread may ask; each waits for its own answer.
"""

from __future__ import annotations

import threading
from typing import Any

from .channel import Channel, ControllerGone


class Asking:
    """`question` frames out, `answer` frames in, matched by their number."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._arrived = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._count = 0
        channel.on("answer", self._take)
        channel.on_gone(self._wake)

    def __call__(self, topic: str, **fields: Any) -> dict[str, Any]:
        """The controller's answer. Raises ControllerGone if it left."""
        with self._arrived:
            self._count += 1
            number = self._count
        self._channel.send("question", number=number, topic=topic, **fields)
        with self._arrived:
            self._arrived.wait_for(lambda: number in self._answers or self._channel.gone)
            if number not in self._answers:
                raise ControllerGone
            return self._answers.pop(number)

    def _take(self, header: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        with self._arrived:
            self._answers[int(header["number"])] = header
            self._arrived.notify_all()

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()
