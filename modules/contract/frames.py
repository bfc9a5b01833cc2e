"""Runs in both worlds: frames over a byte stream: a JSON header with an optional binary body.

On the wire: two big-endian 32-bit lengths (header, body), the header (a UTF-8 JSON object with `type`),
the body. The first frame of the agent is `hello` with the protocol version; see docs/architecture.md.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Callable

PROTOCOL = 1
HEADER_LIMIT = 256 << 20
BODY_LIMIT = 4 << 20
BLOB_CHUNK = 1 << 20

_LENGTHS = struct.Struct(">II")


class BrokenFrame(Exception):
    """The stream ended inside a frame, or what came is no frame (a login banner, a crash)."""


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """One frame as bytes."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return _LENGTHS.pack(len(text), len(body)) + text + body


def read(exactly: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None at a clean end of the stream.

    Args:
        exactly: reads that many bytes; fewer only where the stream ends.
    Raises:
        BrokenFrame: on a short read inside a frame or impossible lengths.
    """
    lengths = exactly(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise BrokenFrame(f"not a frame: {lengths!r}")
    header_size, body_size = _LENGTHS.unpack(lengths)
    if header_size > HEADER_LIMIT or body_size > BODY_LIMIT:
        raise BrokenFrame(f"not a frame: {lengths!r}")
    text = exactly(header_size)
    body = exactly(body_size) if body_size else b""
    if len(text) < header_size or len(body) < body_size:
        raise BrokenFrame("the stream ended inside a frame")
    header = json.loads(text)
    if not isinstance(header, dict) or "type" not in header:
        raise BrokenFrame("a frame without a type")
    return header, body
