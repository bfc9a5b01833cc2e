"""Runs on the managed host, in a container's monitor and its child: the container's ends of its networks.

`attach` is the parent side, `configure` and `dns_sockets` the child side inside the new namespace. What they
need is a container's `network.json`; nothing is imported later, so that a monitor keeps working across upgrades.
"""

from __future__ import annotations

import _socket as socket
import os

from ..agent.paths import Paths
from ..contract import plainjson
from ..contract.errors import HostctlError
from . import links, netlink, redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DNS_ADDRESS = ("127.0.0.11", 53)


def attach(network: dict[str, Any], pid: int) -> None:
    """Parent side: give the namespace of `pid` its interfaces. A veth of the same name is replaced."""
    endpoints = network.get("endpoints", ())
    if not endpoints:
        return
    with netlink.Netlink() as kernel:
        for endpoint in endpoints:
            master = links.index(endpoint["bridge"])
            if not master:
                raise HostctlError(
                    f"cannot attach to network {endpoint['network']}: its bridge "
                    f"{endpoint['bridge']} does not exist",
                    hint="run hostctl apply, which makes the network again",
                    ref="bridge-missing",
                )
            if links.index(endpoint["veth"]):
                links.remove(kernel, endpoint["veth"])
            kernel.do(
                netlink.create_veth(
                    endpoint["veth"],
                    endpoint["interface"],
                    pid=pid,
                    master=master,
                    mac=endpoint.get("mac", ""),
                    mtu=links.mtu(endpoint["bridge"]),
                ),
                *netlink.port_up(endpoint["veth"]),
            )


def detach(network: dict[str, Any]) -> None:
    """Parent side: remove the interfaces. The kernel does so itself when the namespace ends."""
    with netlink.Netlink() as kernel:
        for endpoint in network.get("endpoints", ()):
            if links.index(endpoint["veth"]):
                links.remove(kernel, endpoint["veth"])


def configure(network: dict[str, Any]) -> None:
    """Child side: loopback up, addresses, and the default route through the first endpoint that has one."""
    if network.get("mode") == "host":
        return
    with netlink.Netlink() as kernel:
        messages = [netlink.set_up(1)]
        gateway: tuple[str, int] | None = None
        for endpoint in network.get("endpoints", ()):
            index = socket.if_nametoindex(endpoint["interface"])
            messages.append(netlink.without_inet6(index))
            messages.append(netlink.add_address(index, endpoint["address"]))
            messages.append(netlink.set_up(index))
            if endpoint.get("gateway") and gateway is None:
                gateway = (endpoint["gateway"], index)
        if gateway is not None:
            messages.append(netlink.add_default_route(*gateway))
        kernel.do(*messages)


def dns_sockets() -> list[socket.socket]:
    """Child side: the UDP and the listening TCP socket of the container's resolver, 127.0.0.11:53.

    They listen on ports of chance to which the namespace's NAT leads, so that the container's own programs
    can have port 53; where the kernel has no NAT for us, on port 53 itself. An adopter that has entered
    the namespace gets new ones, which from then on are asked instead of the old.
    """
    host, port = DNS_ADDRESS
    found = [_resolver_socket(socket.SOCK_DGRAM, 0), _resolver_socket(socket.SOCK_STREAM, 0)]
    try:
        udp, tcp = (one.getsockname()[1] for one in found)
        redirect.redirect(host, port, {socket.IPPROTO_UDP: udp, socket.IPPROTO_TCP: tcp})
    except OSError:
        for one in found:
            one.close()
        found = [_resolver_socket(kind, port) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
    return found


def _resolver_socket(kind: int, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if kind == socket.SOCK_DGRAM:
        _widen(one)
    one.bind((DNS_ADDRESS[0], port))
    if kind == socket.SOCK_STREAM:
        one.listen(128)
    return one


def _widen(one: socket.socket) -> None:
    """Room for about 1300 queries while no DNS process runs; the usual limit is a fifth of it."""
    so_rcvbufforce = 33
    try:
        one.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, 1 << 19)
    except PermissionError:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 19)


def publish_names(paths: Paths, network: dict[str, Any], name: str) -> None:
    """Make the running container known to the resolver of its networks."""
    for endpoint in network.get("endpoints", ()):
        folder = os.path.join(paths.run, "networks", endpoint["network"])
        os.makedirs(folder, 0o700, exist_ok=True)
        record = {"names": endpoint.get("names", []), "ipv4": endpoint["address"].partition("/")[0]}
        # No fsync: the run folder is memory, and what it says ends with the host.
        temp = os.path.join(folder, f".{name}.{os.getpid()}")
        with open(temp, "w", encoding="utf-8") as stream:
            stream.write(plainjson.dumps(record))
        os.rename(temp, os.path.join(folder, f"{name}.json"))


def withdraw_names(paths: Paths, network: dict[str, Any], name: str) -> None:
    """Take the container's names back; those that are not there are fine."""
    for endpoint in network.get("endpoints", ()):
        folder = os.path.join(paths.run, "networks", endpoint["network"])
        try:
            os.unlink(os.path.join(folder, f"{name}.json"))
        except FileNotFoundError:
            pass
