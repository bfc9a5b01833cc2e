"""Runs on the controller: an image archive in a file, a folder or on stdin: what is in it, and its bytes."""

from __future__ import annotations

import os
import posixpath
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.frames import BLOB_CHUNK


class Archive:
    """Members by path. Threads may read at the same time.

    Attributes:
        members: (path, bytes) of each regular file.
        links: path -> path with the same content.
    """

    def __init__(self) -> None:
        self.members: list[tuple[str, int]] = []
        self.links: dict[str, str] = {}
        self._places: list[tuple[Path, int]] = []

    def add(self, name: str, size: int, path: Path, offset: int) -> None:
        self.members.append((name, size))
        self._places.append((path, offset))

    def stream(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """The bytes of the members with these numbers, one after another."""
        for number in wanted:
            path, offset = self._places[number]
            left = self.members[number][1]
            with path.open("rb") as file:
                file.seek(offset)
                while left and (piece := file.read(min(BLOB_CHUNK, left))):
                    left -= len(piece)
                    yield piece


@contextmanager
def opened(source: str) -> Iterator[Archive]:
    """The archive at a path, or on stdin (`-`). Raises `bad-archive`."""
    path = Path(source)
    if source != "-" and path.is_dir():
        yield _folder(path)
        return
    with tempfile.TemporaryDirectory(prefix="hostctl-") as room:
        yield _tar(plain_file(source, Path(room)))


def plain_file(source: str, room: Path, *, unpack: bool = True) -> Path:
    """The source as a file that can be read several times; what is compressed is unpacked into `room`."""
    path = Path(source)
    if source == "-":
        if sys.stdin.isatty():
            raise HostctlError(
                "cannot read an archive from a terminal",
                hint="name a file with --input, or redirect stdin",
                ref="bad-archive",
            )
        path = room / "stdin"
        with path.open("xb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, BLOB_CHUNK)
    try:
        with path.open("rb") as file:
            head = file.read(6)
            file.seek(0)
            unpacked = _unpacked(file, head) if unpack else None
            if unpacked is None:
                return path
            plain = room / "plain"
            with unpacked, plain.open("xb") as out:
                shutil.copyfileobj(unpacked, out, BLOB_CHUNK)
            return plain
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise HostctlError(f"cannot read {source}: {reason}", ref="bad-archive") from error


def _unpacked(file: BinaryIO, head: bytes) -> BinaryIO | None:
    """A reader of what was compressed; None where nothing was."""
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if head.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(file)  # type: ignore[return-value]
    if head.startswith(b"\xfd7zXZ\0"):
        import lzma

        return lzma.LZMAFile(file)  # type: ignore[return-value]
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        raise HostctlError(
            "cannot read the archive: it is compressed with zstd",
            hint="unpack it first: zstd -d FILE",
            ref="bad-archive",
        )
    return None


def _folder(path: Path) -> Archive:
    archive = Archive()
    for found in sorted(path.rglob("*")):
        if found.is_file():
            archive.add(found.relative_to(path).as_posix(), os.path.getsize(found), found, 0)
    return archive


def _tar(path: Path) -> Archive:
    archive = Archive()
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                name = posixpath.normpath(info.name).lstrip("/")
                if info.isreg() and not info.sparse:
                    archive.add(name, info.size, path, info.offset_data)
                elif info.islnk() or info.issym():
                    start = posixpath.dirname(name) if info.issym() else ""
                    target = posixpath.normpath(posixpath.join(start, info.linkname))
                    archive.links[name] = target
    except (tarfile.TarError, OSError, ValueError) as error:
        raise HostctlError(
            f"cannot read the archive: {error}",
            hint="it must be a tar of docker save, podman save or an OCI layout",
            ref="bad-archive",
        ) from error
    return archive
