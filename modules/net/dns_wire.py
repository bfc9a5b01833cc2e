"""Runs on the managed host, in the DNS process: the part of the DNS wire format that answering names takes.

By hand because a question, an A record and a PTR record are all there is to it; everything else passes
through unread. Imports `struct` alone: the process stays small.
"""

from __future__ import annotations

import struct

A, PTR, OPT, AAAA, ANY = 1, 12, 41, 28, 255
IN = 1
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
TRUNCATED = 0x0200
TTL = 5
"""Seconds that a name may be kept: short, because containers are replaced."""

_HEADER = struct.Struct(">HHHHHH")
_TO_QUESTION = 0xC00C


class Query:
    """One question: `name` in lower case without the last dot; `limit` is the largest UDP answer."""

    __slots__ = ("edns", "flags", "id", "limit", "name", "question", "type")

    def __init__(
        self, id: int, flags: int, name: str, type: int, question: bytes, limit: int, edns: bool
    ) -> None:
        self.id = id
        self.flags = flags
        self.name = name
        self.type = type
        self.question = question
        self.limit = limit
        self.edns = edns


def parse(data: bytes) -> Query | None:
    """The question in a packet, or None where it is not one plain question (it is then not answered)."""
    if len(data) < _HEADER.size:
        return None
    identity, flags, questions, answers, authorities, more = _HEADER.unpack_from(data)
    # A response, or another operation than a query.
    if flags & 0xF800 or questions != 1:
        return None
    labels = []
    offset = _HEADER.size
    while True:
        if offset >= len(data):
            return None
        size = data[offset]
        offset += 1
        if size == 0:
            break
        # Compression has no place in the first name of a packet.
        if size > 63 or offset + size > len(data):
            return None
        labels.append(data[offset : offset + size].decode("latin-1").lower())
        offset += size
    if offset + 4 > len(data):
        return None
    kind = struct.unpack_from(">H", data, offset)[0]
    question = data[_HEADER.size : offset + 4]
    limit, edns = 512, False
    rest = data[offset + 4 :]
    if not answers and not authorities and more and len(rest) >= 11 and rest[0] == 0:
        record, size = struct.unpack_from(">HH", rest, 1)
        if record == OPT:
            limit, edns = min(max(size, 512), 4096), True
    return Query(identity, flags, ".".join(labels), kind, question, limit, edns)


def answer(query: Query, code: int, records: list[tuple[int, bytes]], limit: int) -> bytes:
    """A response with (type, data) records for the question's name, cut and marked where too long."""
    extra = struct.pack(">BHHIH", 0, OPT, 4096, 0, 0) if query.edns else b""
    body = b""
    count = 0
    flags = 0x8480 | (query.flags & 0x0100) | code
    for kind, data in records:
        record = struct.pack(">HHHIH", _TO_QUESTION, kind, IN, TTL, len(data)) + data
        if _HEADER.size + len(query.question) + len(body) + len(record) + len(extra) > limit:
            flags |= TRUNCATED
            break
        body += record
        count += 1
    head = _HEADER.pack(query.id, flags, 1, count, 0, 1 if query.edns else 0)
    return head + query.question + body + extra


def encode_name(name: str) -> bytes:
    """A name as labels; labels that are too long are cut."""
    out = b""
    for label in name.split("."):
        text = label.encode("latin-1", "replace")[:63]
        out += bytes([len(text)]) + text
    return out + b"\0"


def reverse_address(name: str) -> str:
    """`172.29.0.2` of `2.0.29.172.in-addr.arpa`; empty for any other name."""
    parts = name.split(".")
    if len(parts) == 6 and parts[4:] == ["in-addr", "arpa"]:
        return ".".join(reversed(parts[:4]))
    return ""


def response_code(data: bytes) -> int:
    """The code in a response, SERVFAIL for what is none."""
    return data[3] & 0xF if len(data) >= _HEADER.size else SERVFAIL
