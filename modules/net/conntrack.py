"""Runs on the managed host: ends tracked flows of UDP ports whose target changed.

Datagrams of a flow follow the way that its first one took; a client that never pauses would go on talking
to a container that is gone. ctnetlink by hand, because the `conntrack` program is rarely installed.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable

from . import netlink

NETLINK_NETFILTER = 12
CT_GET, CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 2, 1, 3
NLA_F_NESTED = 0x8000

_GENERIC = struct.Struct("=BBH")


def flush_udp(ports: Iterable[int]) -> int:
    """Delete the tracked IPv4 flows that were first sent to one of these UDP ports; how many there were."""
    wanted = set(ports)
    if not wanted:
        return 0
    ended = 0
    with netlink.Netlink(NETLINK_NETFILTER) as kernel:
        head = _GENERIC.pack(socket.AF_INET, 0, 0)
        for body in kernel.dump(CT_GET, head, "list tracked flows"):
            original = netlink.attributes(body, _GENERIC.size).get(CTA_TUPLE_ORIG, b"")
            protocol = netlink.attributes(
                netlink.attributes(original, 0).get(CTA_TUPLE_PROTO, b""), 0
            )
            number = protocol.get(CTA_PROTO_NUM, b"\0")[0]
            port = struct.unpack(">H", protocol.get(CTA_PROTO_DST_PORT, b"\0\0"))[0]
            if number != socket.IPPROTO_UDP or port not in wanted:
                continue
            request = head + netlink.attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, original)
            try:
                kernel.do(netlink.Message(CT_DELETE, 0, request, f"end flows to UDP port {port}"))
                ended += 1
            except OSError as error:
                # It ended by itself.
                if error.errno != errno.ENOENT:
                    raise
    return ended
