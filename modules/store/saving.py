"""Runs on the managed host, in the agent: the verb save: images as one tar, as Docker writes it today.

An OCI layout with `manifest.json` and `repositories` beside it, so that old and new readers find their own.
Blobs go out as they came in: digests stay, and the same images give the same bytes.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..contract.errors import HostctlError
from ..contract.frames import BLOB_CHUNK
from ..contract.reference import parse
from .manifest import OCI_INDEX, parse_manifest
from .shown import familiar, find
from .staging import pinned
from .store import CONTAINERD_NAME, REF_NAME, Image, Store

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Host

_BLOBS = "blobs/sha256/"


def save(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """The tar as `data` frames. All images must be there before the first byte is sent."""
    store = Store(host.paths.data)
    wanted = [(find(store, name), name) for name in args["names"]]
    archive = _Archive(store, wanted)
    with pinned(store, list(archive.blobs)):
        archive.check()
        for piece in archive.stream():
            channel.stop_if_gone()
            channel.send("data", piece, stream="stdout")
    return 0


class _Archive:
    """What goes into the tar.

    Args:
        wanted: images with the name that was asked for; one that was named by id has all of its tags.
    """

    def __init__(self, store: Store, wanted: list[tuple[Image, str]]) -> None:
        self._store = store
        self.blobs: dict[str, int] = {}
        tags: dict[str, list[str]] = {}
        images: dict[str, Image] = {}
        for image, name in wanted:
            images.setdefault(image.image_id, image)
            names = [i.name for i in store.images() if i.image_id == image.image_id and i.name]
            by_id = image.image_id.startswith(name.rpartition("sha256:")[2])
            found = tags.setdefault(image.image_id, [])
            found += [n for n in (names if by_id else [image.name]) if n and n not in found]
        self._entries: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._repositories: dict[str, dict[str, str]] = {}
        for image_id, image in images.items():
            self._add(image, tags[image_id])

    def _add(self, image: Image, names: list[str]) -> None:
        raw = json.dumps(self._store.manifest(image)).encode()
        manifest = parse_manifest(raw, image.manifest, image.media_type, f"image {image.name}")
        for blob in (manifest.config, *manifest.layers):
            self.blobs[blob.digest] = blob.size
        self.blobs[image.manifest] = image.size
        entry = {
            "mediaType": image.media_type,
            "digest": image.manifest,
            "size": image.size,
        }
        for name in names or [""]:
            tag = _tag(name)
            notes = {CONTAINERD_NAME: name, REF_NAME: tag} if name else {}
            self._entries.append({**entry, **({"annotations": notes} if notes else {})})
        layers = [_BLOBS + layer.digest.partition(":")[2] for layer in manifest.layers]
        self._images.append(
            {
                "Config": _BLOBS + manifest.image_id,
                "RepoTags": [familiar(name) for name in names] or None,
                "Layers": layers,
            }
        )
        for name in names if layers else ():
            repository, tag = familiar(name).rpartition(":")[0], _tag(name)
            if repository and tag:
                self._repositories.setdefault(repository, {})[tag] = layers[-1][len(_BLOBS) :]

    def check(self) -> None:
        """Raise `blob-missing` where the store has not kept what must be sent (layers of another tool's)."""
        for digest in self.blobs:
            if not self._store.has_blob(digest):
                raise HostctlError(
                    f"cannot save: the blob {digest} is missing from the store",
                    hint="pull the image again",
                    ref="blob-missing",
                )

    def stream(self) -> Iterator[bytes]:
        """The tar. Times are 0, and order and owners fixed."""
        for folder in ("blobs/", _BLOBS):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            yield _header(info)
        for digest in sorted(self.blobs):
            yield from self._blob(digest)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self._entries}
        yield from _file("index.json", json.dumps(index).encode())
        yield from _file("manifest.json", json.dumps(self._images).encode())
        yield from _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        if self._repositories:
            yield from _file("repositories", json.dumps(self._repositories).encode())
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _blob(self, digest: str) -> Iterator[bytes]:
        info = tarfile.TarInfo(_BLOBS + digest.partition(":")[2])
        info.size = self.blobs[digest]
        yield _header(info)
        left = info.size
        with open(self._store.blob_path(digest), "rb") as file:
            while left:
                piece = file.read(min(BLOB_CHUNK, left))
                if not piece:
                    raise HostctlError(
                        f"cannot save: the blob {digest} is shorter than its manifest says",
                        hint="remove the image and pull it again",
                        ref="blob-missing",
                    )
                left -= len(piece)
                yield piece
        yield bytes(-info.size % tarfile.BLOCKSIZE)


def _tag(name: str) -> str:
    try:
        return parse(name).tag
    except HostctlError:
        return name


def _file(name: str, data: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    yield _header(info) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT)
