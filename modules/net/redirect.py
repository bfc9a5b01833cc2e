"""Runs on the managed host, in a container's child: sends the resolver's port 53 to where we listen.

A container may run a DNS server of its own on port 53 of every address, so the resolver listens on a port
of chance, and one nftables table in the container's namespace leads 127.0.0.11:53 there. Packed by hand,
like the links: `nft` would take 3 ms of a container's start, and be run inside what the container can see.
"""

from __future__ import annotations

import _socket as socket
import struct

from . import netlink

NETLINK_NETFILTER = 12
BATCH_BEGIN, BATCH_END, NFTABLES = 16, 17, 10
NEWTABLE, DELTABLE, NEWCHAIN, NEWRULE = (NFTABLES << 8 | number for number in (0, 2, 3, 6))
NFPROTO_IPV4, NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST = 2, 3, -100
NETWORK_HEADER, TRANSPORT_HEADER, META_L4PROTO, DNAT = 1, 2, 16, 1
NLA_F_NESTED, NLM_F_APPEND = 0x8000, 0x800
TABLE, CHAIN = "hostctl_dns", "output"


def redirect(address: str, port: int, targets: dict[int, int]) -> None:
    """Lead `address:port` of this namespace to other ports of the same address, in one transaction.

    Args:
        targets: IPPROTO_UDP and IPPROTO_TCP -> the port to use instead.
    Raises:
        OSError: the kernel has no nftables NAT here, or forbids it.
    """
    packed = socket.inet_aton(address)
    table = _text(1, TABLE)
    hook = _nested(4, _number(1, NF_INET_LOCAL_OUT) + _number(2, NF_IP_PRI_NAT_DST))
    chain = _text(1, TABLE) + _text(3, CHAIN) + hook + _text(7, "nat")
    rules = [
        _text(1, TABLE) + _text(2, CHAIN) + _nested(4, _rule(packed, port, protocol, target))
        for protocol, target in sorted(targets.items())
    ]
    make = [
        _message(NEWCHAIN, chain),
        *(_message(NEWRULE, rule, netlink.NLM_F_CREATE | NLM_F_APPEND) for rule in rules),
        _batch(BATCH_END),
    ]
    fresh = _message(NEWTABLE, table, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL)
    with netlink.Netlink(NETLINK_NETFILTER) as kernel:
        try:
            kernel.do(_batch(BATCH_BEGIN), fresh, *make)
        except FileExistsError:
            # An adopter replaces what an older monitor set. A deletion waits 15 ms in the kernel.
            kernel.do(_batch(BATCH_BEGIN), _message(DELTABLE, table, 0), fresh, *make)


def _rule(address: bytes, port: int, protocol: int, target: int) -> bytes:
    """ip daddr ADDRESS meta l4proto PROTOCOL th dport PORT dnat to ADDRESS:TARGET"""
    return (
        _payload(NETWORK_HEADER, 16, 4)
        + _equal(address)
        + _expression("meta", _number(1, 1) + _number(2, META_L4PROTO))
        + _equal(bytes([protocol]))
        + _payload(TRANSPORT_HEADER, 2, 2)
        + _equal(struct.pack(">H", port))
        + _immediate(1, address)
        + _immediate(2, struct.pack(">H", target))
        + _expression(
            "nat",
            _number(1, DNAT)
            + _number(2, NFPROTO_IPV4)
            + _number(3, 1)
            + _number(4, 1)
            + _number(5, 2)
            + _number(6, 2),
        )
    )


def _payload(base: int, offset: int, size: int) -> bytes:
    """Load a field of the packet into register 1."""
    fields = _number(1, 1) + _number(2, base) + _number(3, offset) + _number(4, size)
    return _expression("payload", fields)


def _equal(value: bytes) -> bytes:
    """Go on only if register 1 is this."""
    return _expression(
        "cmp", _number(1, 1) + _number(2, 0) + _nested(3, netlink.attribute(1, value))
    )


def _immediate(register: int, value: bytes) -> bytes:
    data = _nested(2, netlink.attribute(1, value))
    return _expression("immediate", _number(1, register) + data)


def _expression(name: str, data: bytes) -> bytes:
    return _nested(1, _text(1, name) + _nested(2, data))


def _message(kind: int, body: bytes, flags: int = netlink.NLM_F_CREATE) -> netlink.Message:
    head = struct.pack("=BBH", NFPROTO_IPV4, 0, 0)
    return netlink.Message(kind, flags, head + body, "redirect the resolver's port")


def _batch(kind: int) -> netlink.Message:
    head = struct.pack(">BBH", 0, 0, NFTABLES)
    return netlink.Message(kind, 0, head, "redirect the resolver's port", silent=True)


def _number(kind: int, value: int) -> bytes:
    return netlink.attribute(kind, struct.pack(">i", value))


def _text(kind: int, value: str) -> bytes:
    return netlink.attribute(kind, value.encode() + b"\0")


def _nested(kind: int, data: bytes) -> bytes:
    return netlink.attribute(kind | NLA_F_NESTED, data)
