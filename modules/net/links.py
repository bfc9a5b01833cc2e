"""Runs on the managed host: bridges as networks need them, and the cheapest way to read an interface.

State is read by ioctl: a few microseconds, right in any network namespace (a `/sys` of another one is not),
and allowed where every capability is gone (plan mode).
"""

from __future__ import annotations

import _socket as socket
import errno
import fcntl
import os
import struct

from . import netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFMTU = 0x8913, 0x8915, 0x891B, 0x8921


def index(name: str) -> int:
    """The interface's index, 0 where there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def is_up(name: str) -> bool:
    """Whether the interface exists and is up."""
    found = _ioctl(SIOCGIFFLAGS, name)
    return found is not None and bool(struct.unpack_from("=H", found)[0] & netlink.IFF_UP)


def address(name: str) -> str:
    """The interface's first IPv4 address (`172.29.0.1/24`), empty where there is none."""
    packed, mask = _ioctl(SIOCGIFADDR, name), _ioctl(SIOCGIFNETMASK, name)
    if packed is None or mask is None:
        return ""
    prefix = bin(struct.unpack_from(">I", mask, 4)[0]).count("1")
    return f"{socket.inet_ntoa(packed[4:8])}/{prefix}"


def mtu(name: str) -> int:
    """The interface's MTU where it is not the usual one, else 0."""
    found = _ioctl(SIOCGIFMTU, name)
    value = struct.unpack_from("=i", found)[0] if found is not None else 1500
    return 0 if value == 1500 else value


def remove(kernel: netlink.Netlink, name: str) -> None:
    """Delete a link; one that went by itself is fine (its namespace was just being torn down)."""
    try:
        kernel.do(netlink.delete_link(name))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def ensure_bridge(record: dict[str, Any]) -> None:
    """Make the bridge of a network's record as it should be: present, up, with the gateway's address."""
    bridge = record["bridge"]
    wanted = f"{record['gateway']}/{record['subnet'].partition('/')[2]}"
    with netlink.Netlink() as kernel:
        if not index(bridge):
            kernel.do(
                netlink.create_bridge(bridge, mac=record.get("mac", ""), mtu=_uplink_mtu(kernel)),
                netlink.describe(bridge, f"hostctl network {record['name']}"),
            )
        number = index(bridge)
        # Containers speak IPv4; without this every bridge would also answer at a link-local address.
        _sysctl(f"net/ipv6/conf/{bridge}/disable_ipv6", "1")
        # A port published at 127.0.0.1 is reached with a loopback source; firewall.py guards the other way.
        _sysctl(f"net/ipv4/conf/{bridge}/route_localnet", "1")
        if address(bridge) != wanted:
            for old in kernel.addresses():
                if old.index == number and old.address != wanted:
                    kernel.do(netlink.delete_address(number, old.address))
            kernel.do(netlink.add_address(number, wanted))
        if not is_up(bridge):
            kernel.do(netlink.set_up(number))


def remove_bridge(name: str) -> None:
    """Remove a bridge; one that is gone is fine."""
    if index(name):
        with netlink.Netlink() as kernel:
            remove(kernel, name)


def _uplink_mtu(kernel: netlink.Netlink) -> int:
    """A smaller MTU of the interface with the default route (cloud networks), else 0."""
    for route in kernel.routes():
        if route.destination == "0.0.0.0/0" and route.index:
            value = mtu(socket.if_indextoname(route.index))
            return value if value < 1500 else 0
    return 0


def _ioctl(request: int, name: str) -> bytes | None:
    """What the kernel answers behind the interface's name, or None where it has none."""
    query = struct.pack("16s24x", name.encode()[:15])
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        return fcntl.ioctl(one.fileno(), request, query)[16:]
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
            return None
        raise
    finally:
        one.close()


def _sysctl(key: str, value: str) -> None:
    """Write a setting of the kernel unless it says so already; a kernel without it is fine."""
    path = os.path.join("/proc/sys", key)
    try:
        with open(path, encoding="ascii") as stream:
            if stream.read().strip() == value:
                return
        with open(path, "w", encoding="ascii") as stream:
            stream.write(value)
    except FileNotFoundError:
        pass
