"""Runs on the managed host: which of the host's ports are free to publish, and who has those that are not."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..agent.host import Paths
from ..contract.errors import HostctlError, Impossible
from . import firewall

if TYPE_CHECKING:
    from ..container import Port

TCP_LISTEN, UDP_BOUND = "0A", "07"
FREE_RANGE = range(32768, 61000)

_lock = threading.Lock()
_given: dict[tuple[str, str, int, str], str] = {}
"""(data folder, protocol, port, host address) -> container, of ports that this process has handed out.

Containers are made in parallel, and a port counts as used on disk only when its container is recorded.
"""


def ports_in_use(paths: Paths, exclude: str = "") -> dict[tuple[str, int], list[tuple[str, str]]]:
    """(protocol, port) -> [(host address or "", container)] of all publications but `exclude`'s."""
    found: dict[tuple[str, int], list[tuple[str, str]]] = {}
    recorded = [
        (p.protocol, p.host_port, _any(p.host_ip), p.container)
        for p in firewall.published_ports(paths)
    ]
    given = [(*key[1:], owner) for key, owner in list(_given.items()) if key[0] == paths.data]
    for protocol, number, address, owner in (*recorded, *given):
        if owner != exclude:
            where = found.setdefault((protocol, number), [])
            where.append((address, f"container {owner}"))
    return found


def check_port(
    paths: Paths, port: int, protocol: str = "tcp", host_ip: str = "", exclude: str = ""
) -> None:
    """Raises HostctlError, naming who has it, where the host's port cannot be published.

    Args:
        exclude: a container whose own publication does not count.
    """
    _refuse(
        _owner(ports_in_use(paths, exclude), listeners(protocol), port, protocol, host_ip),
        port,
        protocol,
        host_ip,
    )


def check_listeners(port: int, protocol: str = "tcp", host_ip: str = "") -> None:
    """As `check_port`, but only what programs of the host listen on counts."""
    _refuse(_owner({}, listeners(protocol), port, protocol, host_ip), port, protocol, host_ip)


def _refuse(owner: str | None, port: int, protocol: str, host_ip: str) -> None:
    if owner is None:
        return
    who = owner if owner.startswith("container ") else _process_of(owner)
    at = f"{host_ip}:{port}" if host_ip else str(port)
    raise Impossible(
        f"cannot publish port {at}/{protocol}: it is used by {who}",
        hint="publish another port, or stop what uses this one",
        ref="port-taken",
    )


def choose(
    paths: Paths, container: str, wanted: Sequence[Port], before: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The `ports` of a container's `network.json` (without `address`), checked and with free ports filled in.

    Args:
        wanted: the spec's ports; `published` 0 is given a port of the host, that of `before` if still free.
    Raises:
        HostctlError: a port is taken; the message names by whom.
    """
    with _lock:
        for key in [key for key, owner in _given.items() if owner == container]:
            del _given[key]
        chosen = []
        for port in wanted:
            host_port = port.published or _again(paths, container, port, before)
            if host_port:
                check_port(paths, host_port, port.protocol, port.host_ip, container)
            else:
                host_port = _free(paths, port.protocol, port.host_ip)
            _given[(paths.data, port.protocol, host_port, _any(port.host_ip))] = container
            chosen.append(
                {
                    "host_ip": port.host_ip,
                    "host_port": host_port,
                    "protocol": port.protocol,
                    "target": port.target,
                }
            )
        return chosen


def _again(paths: Paths, container: str, port: Port, before: Sequence[dict[str, Any]]) -> int:
    """The port that the container had before for the same target, 0 if there is none or it is taken."""
    for old in before:
        same = (old["target"], old["protocol"], old["host_ip"])
        if same == (port.target, port.protocol, port.host_ip):
            try:
                check_port(paths, old["host_port"], port.protocol, port.host_ip, container)
            except HostctlError:
                return 0
            return int(old["host_port"])
    return 0


def _free(paths: Paths, protocol: str, host_ip: str) -> int:
    used, heard = ports_in_use(paths), listeners(protocol)
    for port in FREE_RANGE:
        if _owner(used, heard, port, protocol, host_ip) is None:
            return port
    raise HostctlError(
        f"cannot publish a {protocol} port: none of {FREE_RANGE.start} to {FREE_RANGE.stop - 1} is free",
        hint="say which port of the host to publish",
        ref="ports-exhausted",
    )


def listeners(protocol: str) -> dict[int, list[tuple[str, str]]]:
    """Port -> [(local IPv4 address or "" for any, socket inode)] of what listens in this namespace."""
    found: dict[int, list[tuple[str, str]]] = {}
    wanted = TCP_LISTEN if protocol == "tcp" else UDP_BOUND
    for table in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as stream:
                lines = stream.readlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            cells = line.split()
            if cells[3] == wanted:
                local, _, port = cells[1].rpartition(":")
                found.setdefault(int(port, 16), []).append((_ipv4(local), cells[9]))
    return found


def _owner(
    used: dict[tuple[str, int], list[tuple[str, str]]],
    heard: dict[int, list[tuple[str, str]]],
    port: int,
    protocol: str,
    host_ip: str,
) -> str | None:
    """The container, or the inode of the socket, that has the port at an address that matters."""
    mine = _any(host_ip)
    everyone: list[tuple[str, str]] = [*used.get((protocol, port), ()), *heard.get(port, ())]
    for address, who in everyone:
        if not mine or not address or address == mine:
            return who
    return None


def _any(host_ip: str) -> str:
    return "" if host_ip in ("", "0.0.0.0") else host_ip


def _ipv4(text: str) -> str:
    """The address of a line of /proc/net; IPv6 wildcards listen for IPv4 too, other IPv6 never does."""
    if len(text) == 8:
        return _any(socket.inet_ntoa(struct.pack("=I", int(text, 16))))
    packed = b"".join(struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, 32, 8))
    if packed == bytes(16):
        return ""
    if packed.startswith(bytes(10) + b"\xff\xff"):
        return _any(socket.inet_ntoa(packed[12:]))
    return socket.inet_ntop(socket.AF_INET6, packed)


def _process_of(inode: str) -> str:
    """`sshd (process 812)`, found by the socket's inode; only done to explain a refusal."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
                        return f"{stream.read().strip()} (process {pid})"
        except OSError:
            continue
    return "another program of the host"
