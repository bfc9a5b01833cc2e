"""Runs on the managed host: gzip, zstd and plain streams, told apart by their first bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from ..contract.errors import HostctlError
from .tar import BrokenTar

_OUTPUT = 1 << 20
_FOREIGN = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x5d\0\0": "lzma"}


def decompress(chunks: Iterable[bytes], workdir: str) -> Iterator[bytes]:
    """The stream as it was before compression, in pieces of at most 1 MiB (plain ones as they come).

    Args:
        chunks: the stream.
        workdir: a folder for temporary files, which the caller removes.
    Raises:
        HostctlError: `layer-broken` if it is cut off or damaged, `layer-compression` if it cannot be read here.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= 6:
            break
    whole = _chain(head, source)
    if head.startswith(b"\x1f\x8b"):
        yield from _gunzip(whole)
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        yield from _unzstd(whole, workdir)
    else:
        for magic, name in _FOREIGN.items():
            if head.startswith(magic):
                raise HostctlError(
                    f"cannot unpack the layer: {name} is no compression of images",
                    hint="push the image again with gzip or zstd layers",
                    ref="layer-compression",
                )
        yield from whole


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """All members of a gzip stream: parallel compressors and seekable layers write many."""
    import zlib

    stream = zlib.decompressobj(wbits=31)
    fresh = False
    for chunk in chunks:
        data = chunk
        while data:
            if fresh:
                data = data.lstrip(b"\0")
                if not data:
                    break
                stream, fresh = zlib.decompressobj(wbits=31), False
            try:
                out = stream.decompress(data, _OUTPUT)
            except zlib.error as error:
                raise BrokenTar(f"its gzip data is damaged ({error})") from None
            if out:
                yield out
            if stream.eof:
                data, fresh = stream.unused_data, True
            else:
                data = stream.unconsumed_tail
    while not fresh:
        # What zlib still holds back because of the limit on each piece.
        out = stream.decompress(b"", _OUTPUT)
        if out:
            yield out
        elif stream.eof:
            return
        else:
            raise BrokenTar("its gzip data is cut off")


def _unzstd(chunks: Iterator[bytes], workdir: str) -> Iterator[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        yield from _unzstd_program(chunks, workdir)
        return
    yield from _unzstd_module(chunks, zstd)


def _unzstd_module(chunks: Iterator[bytes], zstd: Any) -> Iterator[bytes]:
    stream = zstd.ZstdDecompressor()
    for chunk in chunks:
        data = chunk
        while data or not (stream.needs_input or stream.eof):
            if stream.eof:
                stream = zstd.ZstdDecompressor()
            try:
                out = stream.decompress(data, _OUTPUT)
            except zstd.ZstdError as error:
                raise BrokenTar(f"its zstd data is damaged ({error})") from None
            if out:
                yield out
            data = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise BrokenTar("its zstd data is cut off")


def _unzstd_program(chunks: Iterator[bytes], workdir: str) -> Iterator[bytes]:
    """Python before 3.14 has no zstd: the program writes a file, which may not eat the disk."""
    from ..agent.run import run
    from .unpack import disk_full

    packed, plain = os.path.join(workdir, "layer.zst"), os.path.join(workdir, "layer.tar")
    with open(packed, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
    status = os.statvfs(workdir)
    free = status.f_bavail * status.f_frsize
    limit = ["prlimit", f"--fsize={max(free - (64 << 20), 1 << 20)}"]
    try:
        done = run(
            [*limit, "zstd", "-d", "-q", "-f", "--long=27", packed, "-o", plain],
            timeout=1800,
        )
    except HostctlError as error:
        if error.ref != "program-missing":
            raise
        done = None
    if done is None or "failed to execute" in done.stderr:
        raise HostctlError(
            "cannot unpack the layer: it is compressed with zstd, and this host has no program for that",
            hint="apt-get install zstd, or push the image with gzip layers",
            ref="layer-compression",
        )
    if done.code != 0:
        if done.code < 0 or "large" in done.stderr or "space" in done.stderr:
            raise disk_full(workdir, free)
        raise BrokenTar(f"its zstd data is damaged ({done.stderr.strip()[-200:]})")
    os.unlink(packed)
    with open(plain, "rb") as file:
        while True:
            chunk = file.read(_OUTPUT)
            if not chunk:
                break
            yield chunk
    os.unlink(plain)
