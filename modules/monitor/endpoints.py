"""Runs on the managed host, in a monitor: a container's network, names and resolver, by its network.json."""

from __future__ import annotations

import os
import socket
from typing import Any

from ..agent.host import Paths
from ..net import dns_client, endpoint
from ..runtime import syscalls
from ..runtime.container import Network


class Endpoints(Network):
    """What the runtime calls while it makes the container, and what the monitor holds while it runs."""

    def __init__(self, paths: Paths, name: str, record: dict[str, Any]) -> None:
        self._paths = paths
        self._name = name
        self._record = record
        self._hand: dns_client.Hand | None = None

    def attach(self, pid: int) -> None:
        endpoint.attach(self._record, pid)

    def configure(self) -> None:
        if self._record.get("mode", "host") != "host":
            endpoint.configure(self._record)

    def sockets(self) -> list[int]:
        if not self._record.get("dns"):
            return []
        return [one.detach() for one in endpoint.dns_sockets()]

    def publish(self, pid: int, fds: list[int]) -> None:
        """The container runs: others find it by name, and it finds others through these sockets."""
        self._serve([socket.socket(fileno=fd) for fd in fds], pid)
        endpoint.publish_names(self._paths, self._record, self._name)

    def adopt(self, pid: int) -> None:
        """The same for a container that runs already: new sockets are made in its namespace."""
        if self._record.get("dns"):
            own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(theirs, syscalls.CLONE_NEWNET)
                try:
                    found = endpoint.dns_sockets()
                finally:
                    syscalls.setns(own, syscalls.CLONE_NEWNET)
            finally:
                os.close(own)
                os.close(theirs)
            self._serve(found, pid)
        endpoint.publish_names(self._paths, self._record, self._name)

    def _serve(self, sockets: list[socket.socket], pid: int) -> None:
        if not sockets:
            return
        networks = [item["network"] for item in self._record.get("endpoints", ())]
        self._hand = dns_client.Hand(self._paths)
        self._hand.register(self._name, networks, sockets, pid)

    def fileno(self) -> int:
        """To poll for reading: readable means `restore`. -1 where there is no resolver."""
        return self._hand.fileno() if self._hand is not None else -1

    def restore(self) -> None:
        if self._hand is not None:
            self._hand.restore()

    def withdraw(self) -> None:
        """The container has ended."""
        if self._hand is not None:
            self._hand.close()
            self._hand = None
        endpoint.withdraw_names(self._paths, self._record, self._name)
