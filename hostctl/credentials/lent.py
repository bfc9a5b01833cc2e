"""Runs on the controller: what builds may ask for while a step lasts: values of secrets, signatures of SSH agents.

Values and keys stay here; a host gets the answer to one question (`contract/build.py` has the names only).
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.errors import HostctlError

if TYPE_CHECKING:
    from .agents import Agent

SECRET, SSH = "build-secret", "build-ssh"
"""Topics of questions: of a secret `image`, `id`; of an agent also `connection` and `message` (empty: it is closed)."""


class Lent:
    """Of all builds of one run, by image and id. Any thread may ask."""

    def __init__(self) -> None:
        self._secrets: dict[tuple[str, str], bytes] = {}
        self._agents: dict[tuple[str, str], tuple[str, ...]] = {}
        self._open: dict[tuple[str, str], Agent] = {}
        self._lock = threading.Lock()

    def secret(self, image: str, name: str, value: bytes) -> None:
        """A build may have this value.

        Raises:
            HostctlError: it has another one under that id already: an image is the same on all hosts.
        """
        if self._secrets.setdefault((image, name), value) != value:
            raise HostctlError(
                f"cannot give the secret {name} to the build of {image}: hosts have different values of it",
                hint="give the image another name on each of them, or all the same value",
                ref="build-secret",
            )

    def agent(self, image: str, name: str, sources: tuple[str, ...]) -> None:
        """A build may ask the agent at a socket, or use the keys of files (`agents.py`); looked at when it does."""
        self._agents[image, name] = sources

    def check(self) -> None:
        """Raise HostctlError for agents that cannot be used, before a host is touched."""
        from .agents import check

        for (_, name), sources in self._agents.items():
            check(name, sources)

    def reply(self, frame: Mapping[str, Any], images: set[str], host: str) -> dict[str, Any]:
        """The fields of an answer.

        Args:
            images: what the host that asks was told to build; it gets nothing that is another's.
        """
        key = (str(frame["image"]), str(frame["id"]))
        if key[0] not in images:
            return {}
        if frame["topic"] == SECRET:
            value = self._secrets.get(key)
            return {} if value is None else {"value": base64.b64encode(value).decode()}
        if key not in self._agents:
            return {}
        try:
            agent = self._agent(key)
        except HostctlError as error:
            return {"error": error.message, "hint": error.hint}
        message = base64.b64decode(frame["message"])
        answer = agent.ask((host, int(frame["connection"])), message)
        return {"message": base64.b64encode(answer).decode()}

    def _agent(self, key: tuple[str, str]) -> Agent:
        from .agents import Agent, check

        with self._lock:
            if key not in self._open:
                check(key[1], self._agents[key])
                self._open[key] = Agent(self._agents[key])
            return self._open[key]
