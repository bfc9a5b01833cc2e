"""Runs on the managed host, in a monitor: a container's network, names and resolver, by its network.json."""

from __future__ import annotations

import _socket as socket
import os

from ..agent.paths import Paths
from ..net import dns_client, endpoint
from ..runtime import syscalls
from ..runtime.container import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Endpoints(Network):
    """What the runtime calls while it makes the container, and what follows while it runs."""

    def __init__(self, paths: Paths, name: str, record: dict[str, Any]) -> None:
        self._paths = paths
        self._name = name
        self._record = record

    def attach(self, pid: int) -> None:
        endpoint.attach(self._record, pid)

    def configure(self) -> None:
        if self._record.get("mode", "host") != "host":
            endpoint.configure(self._record)

    def sockets(self) -> list[int]:
        if not self._record.get("dns"):
            return []
        return [one.detach() for one in endpoint.dns_sockets()]

    def publish(self, pid: int, fds: list[int]) -> list[int]:
        """The container runs: others find it by name, and it finds others through these sockets.

        What has to stay open meanwhile: the connection to the DNS process, and the sockets.
        """
        found = self.serve(fds, pid)
        endpoint.publish_names(self._paths, self._record, self._name)
        return found

    def adopt(self, pid: int) -> list[int]:
        """The same for a container that runs already: new sockets are made in its namespace."""
        if not self._record.get("dns"):
            return self.publish(pid, [])
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(theirs, syscalls.CLONE_NEWNET)
            try:
                found = self.sockets()
            finally:
                syscalls.setns(own, syscalls.CLONE_NEWNET)
        finally:
            os.close(own)
            os.close(theirs)
        return self.publish(pid, found)

    def serve(self, fds: list[int], pid: int) -> list[int]:
        """Hand the sockets to the DNS process. Closing the connection takes them back."""
        if not fds:
            return []
        networks = [item["network"] for item in self._record.get("endpoints", ())]
        hand = dns_client.Hand(self._paths)
        hand.register(self._name, networks, [socket.socket(fileno=os.dup(fd)) for fd in fds], pid)
        return [os.dup(hand.fileno()), *fds]

    def withdraw(self) -> None:
        """The container has ended."""
        endpoint.withdraw_names(self._paths, self._record, self._name)
