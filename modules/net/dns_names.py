"""Runs on the managed host, in the DNS process: names of running containers, and the host's resolvers.

Both are read from files again when these change, so that nobody has to tell this process anything.
"""

from __future__ import annotations

import json
import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESOLV_CONF = "/etc/resolv.conf"
_SETTLED_NS = 100_000_000
"""A change time this young may still get another change that does not move it (the kernel's clock ticks)."""


class Network:
    """What is known of one network: names to addresses, addresses to container names, and `internal`."""

    def __init__(self, data_dir: str, run_dir: str, name: str) -> None:
        self.name = name
        self._record = os.path.join(data_dir, "networks", name, "network.json")
        self._folder = os.path.join(run_dir, "networks", name)
        self._stamp = 0
        self._names: dict[str, list[str]] = {}
        self._owners: dict[str, str] = {}

    def internal(self) -> bool:
        """Whether the network has no way out."""
        try:
            with open(self._record, encoding="utf-8") as stream:
                return bool(json.load(stream).get("internal"))
        except (OSError, ValueError):
            return False

    def addresses(self, name: str) -> list[str]:
        """All addresses of the name: of every replica of a service."""
        self._refresh()
        return self._names.get(name, [])

    def owner(self, address: str) -> str:
        """The container with this address, empty if there is none."""
        self._refresh()
        return self._owners.get(address, "")

    def _refresh(self) -> None:
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except FileNotFoundError:
            changed = -1
        if changed == self._stamp:
            return
        names: dict[str, list[str]] = {}
        owners: dict[str, str] = {}
        for file in sorted(os.listdir(self._folder)) if changed >= 0 else ():
            if not file.endswith(".json") or file.startswith("."):
                continue
            record = _read(os.path.join(self._folder, file))
            address = record.get("ipv4", "")
            if not address:
                continue
            owners[address] = file[: -len(".json")]
            # The container's own name always works, whatever its record lists.
            for name in {owners[address], *record.get("names", ())}:
                names.setdefault(name.lower(), []).append(address)
        self._names, self._owners = names, owners
        self._stamp = changed if time.time_ns() - changed > _SETTLED_NS else 0


class Upstreams:
    """The host's resolvers as (family, address) pairs, in the order of its resolv.conf.

    A resolver on the host's own loopback (systemd-resolved, dnsmasq) is fine: this process asks from
    the host's network namespace, which keeps per-link and split DNS working.
    """

    def __init__(self, path: str = RESOLV_CONF) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._found: list[tuple[int, Any]] = []

    def get(self) -> list[tuple[int, Any]]:
        """All of them; read again if the file changed."""
        try:
            status = os.stat(self._path)
        except OSError:
            return []
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            with open(self._path, encoding="utf-8", errors="replace") as stream:
                words = [line.split() for line in stream]
            found = [_upstream(w[1]) for w in words if len(w) > 1 and w[0] == "nameserver"]
            self._found = [one for one in found if one is not None]
            self._stamp = stamp if time.time_ns() - status.st_mtime_ns > _SETTLED_NS else (0, 0)
        return self._found


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _upstream(text: str) -> tuple[int, Any] | None:
    host, _, zone = text.partition("%")
    try:
        if ":" in host:
            socket.inet_pton(socket.AF_INET6, host)
            scope = socket.if_nametoindex(zone) if zone else 0
            return socket.AF_INET6, (host, 53, 0, scope)
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return None
    return socket.AF_INET, (host, 53)
