"""Runs on the managed host: the few rtnetlink messages that containers need, packed by hand.

One raw socket costs 0.7 ms per container where `ip` costs 14 ms and pyroute2 2.4 ms and 150 ms of import.
Standard library only, and only `socket`, `struct` and `os`: container monitors import this too.
"""

from __future__ import annotations

import _socket as socket
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_ACK_TLVS = 0x200
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER = 1, 3, 4, 10
IFLA_LINKINFO, IFLA_NET_NS_PID, IFLA_IFALIAS, IFLA_AF_SPEC = 18, 19, 20, 26
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_MODE = 4, 5, 4
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST = 254, 4, 1
IFF_UP = 0x1
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11
ANSWER_SECONDS = 10

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")


class Message:
    """One request; `what` names the act for the error message ("create bridge hc-1").

    Where a message is `optional`, a kernel that refuses it is fine; one that is `silent` gets no answer.
    """

    def __init__(
        self,
        type: int,
        flags: int,
        body: bytes,
        what: str,
        optional: bool = False,
        silent: bool = False,
    ) -> None:
        self.type = type
        self.flags = flags
        self.body = body
        self.what = what
        self.optional = optional
        self.silent = silent


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute: length, type, value, padded to four bytes."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _mac(value: str) -> bytes:
    return attribute(IFLA_ADDRESS, bytes.fromhex(value.replace(":", ""))) if value else b""


def _no_inet6() -> bytes:
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    return attribute(IFLA_AF_SPEC, attribute(socket.AF_INET6, mode))


def _mtu(value: int) -> bytes:
    return _number(IFLA_MTU, value) if value else b""


def create_bridge(name: str, *, mac: str = "", mtu: int = 0) -> Message:
    """A bridge, up. A fixed `mac` keeps it from changing with its first port."""
    body = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + _text(IFLA_IFNAME, name) + _mac(mac) + _mtu(mtu)
    body += attribute(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "bridge"))
    flags = NLM_F_CREATE | NLM_F_EXCL
    return Message(RTM_NEWLINK, flags, body, f"create bridge {name}")


def create_veth(
    name: str, peer: str, *, pid: int, master: int, mac: str = "", mtu: int = 0
) -> Message:
    """A veth pair, down: `name` here as a port of bridge `master`, `peer` in the namespace of `pid`."""
    other = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _text(IFLA_IFNAME, peer)
        + _mac(mac)
        + _mtu(mtu)
        + _number(IFLA_NET_NS_PID, pid)
    )
    data = attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, other))
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _text(IFLA_IFNAME, name)
        + _mtu(mtu)
        + _number(IFLA_MASTER, master)
        + attribute(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "veth") + data)
    )
    flags = NLM_F_CREATE | NLM_F_EXCL
    return Message(RTM_NEWLINK, flags, body, f"create veth {name} to {peer} of process {pid}")


def port_up(name: str) -> tuple[Message, ...]:
    """A bridge's port up, without an IPv6 address, and sending back to where it came from if it must.

    Hairpin lets a container reach its own published port where br_netfilter is loaded (Docker loads it):
    the packet is then turned round in the bridge, before the host would route it.
    """
    who = _LINK.pack(0, 0, 0, 0, 0) + _text(IFLA_IFNAME, name)
    hairpin = attribute(IFLA_BRPORT_MODE, b"\1")
    slave = _text(IFLA_INFO_SLAVE_KIND, "bridge") + attribute(IFLA_INFO_SLAVE_DATA, hairpin)
    up = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + _text(IFLA_IFNAME, name)
    return (
        Message(RTM_NEWLINK, 0, who + _no_inet6(), f"configure {name}", optional=True),
        Message(RTM_NEWLINK, 0, who + attribute(IFLA_LINKINFO, slave), f"configure port {name}"),
        Message(RTM_NEWLINK, 0, up, f"set {name} up"),
    )


def without_inet6(index: int) -> Message:
    """No IPv6 link-local address when the link goes up; a kernel without IPv6 is fine."""
    body = _LINK.pack(0, 0, index, 0, 0) + _no_inet6()
    return Message(RTM_NEWLINK, 0, body, f"configure link {index}", optional=True)


def describe(name: str, alias: str) -> Message:
    """Gives a link words for people; the kernel takes none while it makes one."""
    body = _LINK.pack(0, 0, 0, 0, 0) + _text(IFLA_IFNAME, name)
    body += attribute(IFLA_IFALIAS, alias.encode())
    return Message(RTM_NEWLINK, 0, body, f"describe link {name}")


def delete_link(name: str) -> Message:
    """Removes a link by name (and with a veth its peer, with a bridge its address)."""
    body = _LINK.pack(0, 0, 0, 0, 0) + _text(IFLA_IFNAME, name)
    return Message(RTM_DELLINK, 0, body, f"delete link {name}")


def set_up(index: int, *, up: bool = True) -> Message:
    """Sets a link up or down."""
    body = _LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP)
    return Message(RTM_NEWLINK, 0, body, f"set link {index} {'up' if up else 'down'}")


def rename(index: int, name: str) -> Message:
    """Renames a link, which must be down on older kernels."""
    body = _LINK.pack(0, 0, index, 0, 0) + _text(IFLA_IFNAME, name)
    return Message(RTM_NEWLINK, 0, body, f"rename link {index} to {name}")


def add_address(index: int, address: str) -> Message:
    """Adds an IPv4 address (`172.29.0.2/24`); one that is there already stays."""
    host, _, length = address.partition("/")
    packed = socket.inet_aton(host)
    prefix = int(length or 32)
    ones = 0xFFFFFFFF >> prefix
    broadcast = struct.pack(">I", struct.unpack(">I", packed)[0] | ones)
    body = _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if prefix < 31:
        body += attribute(IFA_BROADCAST, broadcast)
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return Message(RTM_NEWADDR, flags, body, f"add address {address} to link {index}")


def delete_address(index: int, address: str) -> Message:
    """Removes an IPv4 address."""
    host, _, length = address.partition("/")
    body = _ADDRESS.pack(socket.AF_INET, int(length or 32), 0, 0, index)
    body += attribute(IFA_LOCAL, socket.inet_aton(host))
    return Message(RTM_DELADDR, 0, body, f"delete address {address} of link {index}")


def add_default_route(gateway: str, index: int) -> Message:
    """The default route through a gateway, replacing one that is there."""
    body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0)
    body += attribute(RTA_GATEWAY, socket.inet_aton(gateway)) + _number(RTA_OIF, index)
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return Message(RTM_NEWROUTE, flags, body, f"add default route via {gateway}")


class Link:
    """One network interface."""

    def __init__(
        self, index: int, name: str, up: bool, mac: str, master: int, alias: str = ""
    ) -> None:
        self.index = index
        self.name = name
        self.up = up
        self.mac = mac
        self.master = master
        self.alias = alias


class Address:
    """One IPv4 address of an interface: `172.29.0.1/24`."""

    def __init__(self, index: int, address: str) -> None:
        self.index = index
        self.address = address


class Route:
    """One IPv4 unicast route of any table: destination (`0.0.0.0/0` is the default) and interface index."""

    def __init__(self, destination: str, index: int, gateway: str) -> None:
        self.destination = destination
        self.index = index
        self.gateway = gateway


class Netlink:
    """One netlink socket in the caller's network namespace; a context manager; not for two threads."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._socket.bind((0, 0))
        # The kernel answers at once; a kernel that does not must not hang us.
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", ANSWER_SECONDS, 0)
        )
        # Short acknowledgements with the kernel's own words for what was wrong (since Linux 4.12).
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                pass
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def do(self, *messages: Message) -> None:
        """Send the messages in one write; the kernel does them in order, also after one that failed.

        Raises:
            OSError: the first failure, with errno and what was tried.
        """
        data = b""
        waiting: dict[int, Message] = {}
        for message in messages:
            self._sequence += 1
            flags = message.flags | NLM_F_REQUEST
            if not message.silent:
                waiting[self._sequence] = message
                flags |= NLM_F_ACK
            size = _HEADER.size + len(message.body)
            data += _HEADER.pack(size, message.type, flags, self._sequence, 0) + message.body
        self._socket.send(data)
        failure: OSError | None = None
        while waiting:
            for kind, flags, sequence, body in _messages(self._socket.recv(65536)):
                if kind != NLMSG_ERROR or sequence not in waiting:
                    continue
                done = waiting.pop(sequence)
                number = -struct.unpack_from("=i", body)[0]
                if number and failure is None and not done.optional:
                    failure = OSError(number, _reason(done.what, number, flags, body))
        if failure is not None:
            raise failure

    def links(self, kind: str = "") -> list[Link]:
        """All interfaces of this namespace; with `kind` those of that kind (Linux 4.6; before, all)."""
        found = []
        query = _LINK.pack(0, 0, 0, 0, 0)
        if kind:
            query += attribute(IFLA_LINKINFO, _text(IFLA_INFO_KIND, kind))
        for body in self.dump(RTM_GETLINK, query, "list links"):
            _, _, index, flags, _ = _LINK.unpack_from(body)
            values = attributes(body, _LINK.size)
            name = values.get(IFLA_IFNAME, b"").rstrip(b"\0").decode()
            master = values.get(IFLA_MASTER, b"\0\0\0\0")
            found.append(
                Link(
                    index=index,
                    name=name,
                    up=bool(flags & IFF_UP),
                    mac=values.get(IFLA_ADDRESS, b"").hex(":"),
                    master=struct.unpack("=I", master)[0],
                    alias=values.get(IFLA_IFALIAS, b"").rstrip(b"\0").decode("utf-8", "replace"),
                )
            )
        return found

    def addresses(self) -> list[Address]:
        """All IPv4 addresses of this namespace."""
        found = []
        query = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
        for body in self.dump(RTM_GETADDR, query, "list addresses"):
            family, prefix, _, _, index = _ADDRESS.unpack_from(body)
            values = attributes(body, _ADDRESS.size)
            packed = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
            if family == socket.AF_INET and packed:
                found.append(Address(index, f"{socket.inet_ntoa(packed)}/{prefix}"))
        return found

    def routes(self) -> list[Route]:
        """All IPv4 unicast routes, those of other tables too (policy routing, VPNs)."""
        found = []
        query = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        for body in self.dump(RTM_GETROUTE, query, "list routes"):
            family, length, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(body)
            if family != socket.AF_INET or kind != RTN_UNICAST:
                continue
            values = attributes(body, _ROUTE.size)
            destination = socket.inet_ntoa(values.get(RTA_DST, b"\0\0\0\0"))
            index = struct.unpack("=I", values.get(RTA_OIF, b"\0\0\0\0"))[0]
            gateway = values.get(RTA_GATEWAY)
            via = socket.inet_ntoa(gateway) if gateway else ""
            found.append(Route(f"{destination}/{length}", index, via))
        return found

    def dump(self, kind: int, query: bytes, what: str) -> list[bytes]:
        """The bodies of all messages that answer a dump request."""
        self._sequence += 1
        size = _HEADER.size + len(query)
        flags = NLM_F_REQUEST | NLM_F_DUMP
        self._socket.send(_HEADER.pack(size, kind, flags, self._sequence, 0) + query)
        found: list[bytes] = []
        while True:
            for answer, answer_flags, sequence, body in _messages(self._socket.recv(1 << 18)):
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, _reason(what, number, answer_flags, body))
                found.append(body)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each message in what one recv returned."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + size]
        offset += (max(size, _HEADER.size) + 3) & ~3


def attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """Type -> value of the attributes that follow in a message or a nested attribute."""
    found = {}
    while offset + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, offset)
        if size < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = body[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3
    return found


def _reason(what: str, number: int, flags: int, body: bytes) -> str:
    text = f"cannot {what}: {os.strerror(number)}"
    if flags & NLM_F_ACK_TLVS:
        words = (
            attributes(body, 4 + _HEADER.size).get(1, b"").rstrip(b"\0").decode(errors="replace")
        )
        if words:
            text += f" ({words.rstrip('.')})"
    return text
