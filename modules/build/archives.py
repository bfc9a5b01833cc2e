"""Runs on the managed host: archives that ADD unpacks: tar, plain or compressed with gzip, bzip2, xz or zstd."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..store.decompress import decompress
from ..store.unpack import unpack

_PIECE = 1 << 20
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


def is_archive(path: str) -> bool:
    """Whether ADD unpacks the file: by its content, as Docker does, not by its name."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head[257:262] == b"ustar":
        return True
    if not head.startswith(_MAGIC):
        return False
    try:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            first = b""
            for chunk in _plain(path, folder):
                first += chunk
                if len(first) >= 512:
                    break
    except Exception:
        return False
    return first[257:262] == b"ustar"


def unpack_archive(path: str, folder: str) -> str:
    """Unpack into `folder`, which is made; the path of the tree. Raises HostctlError as `store.unpack`."""
    os.makedirs(folder)
    unpack(_plain(path, folder), folder)
    return os.path.join(folder, "root")


def _plain(path: str, folder: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"BZh"):
        import bz2

        with bz2.open(path) as stream:
            yield from iter(lambda: stream.read(_PIECE), b"")
    elif head.startswith(b"\xfd7zXZ"):
        import lzma

        with lzma.open(path) as packed:
            yield from iter(lambda: packed.read(_PIECE), b"")
    else:
        with open(path, "rb") as raw:
            yield from decompress(iter(lambda: raw.read(_PIECE), b""), folder)
