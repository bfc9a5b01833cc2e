"""Runs on the managed host: images from host to host: one gives blobs by digest, the others take what they lack.

Layers travel in the form that the store has them in: nothing is packed again. A blob that came in part goes on
there the next time (`parts.py`), and counts once its digest is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from ..contract.errors import HostctlError
from ..contract.frames import BLOB_CHUNK
from ..contract.reference import canonical_name
from .fetch import Meter, bring, verify
from .manifest import Descriptor, Manifest, parse_manifest, parse_platform
from .parts import Part
from .shown import familiar, find
from .staging import pinned
from .store import Image, Store
from .tidy import free, make_room

_RUNS_TOO = {"amd64": "386", "arm64": "arm"}

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.exchange import Exchange
    from ..agent.host import Host


@dataclass(frozen=True)
class Came:
    """An image that came from another host, and the bytes that travelled for it or were here."""

    image: Image
    sent: int
    present: int


def give(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Send blobs of an image to the controller.

    Args (of the call): `image`. A row tells the manifest: `raw`, `digest`, `media_type`, `pinned`, `source`,
    `id`, `blobs` (digest -> bytes). `give` frames (`digest`, `offset`, `end`) are answered with `data` frames,
    one after another, until `eof`.
    """
    store = Store(host.paths.data)
    image = find(store, str(args["image"]))
    manifest = _manifest_of(store, image)
    blobs = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
    with pinned(store, [image.manifest, *blobs]):
        for digest in blobs:
            if not store.has_blob(digest):
                raise HostctlError(
                    f"cannot ship {familiar(image.name)}: the blob {digest} is missing from the store",
                    hint="build or pull the image again",
                    ref="blob-missing",
                )
        told = {"raw": manifest.raw.decode(), "digest": image.manifest, "blobs": blobs}
        told.update(media_type=image.media_type, pinned=image.pinned, source=image.source)
        channel.send("row", data={**told, "id": image.image_id})
        while True:
            header, _ = channel.receive()
            if header["type"] == "eof":
                return 0
            if header["type"] == "give" and header["digest"] in blobs:
                digest = header["digest"]
                for offset, piece in _pieces(store, digest, header["offset"], header["end"]):
                    channel.stop_if_gone()
                    channel.send("data", piece, digest=digest, offset=offset)


def _pieces(store: Store, digest: str, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    with open(store.blob_path(digest), "rb") as file:
        file.seek(offset)
        while offset < end:
            piece = file.read(min(BLOB_CHUNK, end - offset))
            if not piece:
                raise HostctlError(
                    f"cannot ship {digest}: it is shorter than its manifest says",
                    hint="remove the image there, and build or pull it again",
                    ref="blob-missing",
                )
            yield offset, piece
            offset += len(piece)


def take(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Get an image from another host. One row: `name`, `id`, `digest`, bytes `sent` and `present`.

    Args (of the call): `image`, what it is called on the way and here.
    """
    from ..agent.exchange import Exchange

    store = Store(host.paths.data)
    name = canonical_name(str(args["image"]))
    exchange = Exchange(channel)
    came = receive(store, exchange, name, lambda text: channel.send("progress", message=text))
    image = came.image
    row = {"name": familiar(name), "id": f"sha256:{image.image_id}", "digest": image.manifest}
    channel.send("row", data={**row, "sent": came.sent, "present": came.present})
    return 0


def receive(store: Store, exchange: Exchange, name: str, progress: Callable[[str], None]) -> Came:
    """Bring in what another host has under this name.

    Raises:
        HostctlError: nothing is tagged then; what came is kept for the next time.
    """
    shipment = exchange.open(name)
    what = f"{familiar(name)} from {shipment.get('host') or 'another host'}"
    raw = str(shipment["raw"]).encode()
    verify(shipment["digest"], hashlib.sha256(raw).hexdigest(), f"the manifest of {what}")
    manifest = parse_manifest(raw, shipment["digest"], shipment["media_type"], what)
    blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
    with pinned(store, [manifest.digest, *blobs]):
        lacking = [blob for blob in blobs.values() if not store.has_blob(blob.digest)]
        _check_space(store, lacking, what)
        meter = Meter(sum(blob.size for blob in lacking), progress, f"from {shipment.get('host')}")
        sent = _fetch(store, exchange, name, lacking, meter, what) if lacking else 0
        _check_platform(store, manifest, what)
        image = bring(
            store,
            _Nowhere(),
            manifest,
            what,
            name=name,
            pinned_digest=shipment.get("pinned") or manifest.digest,
            origin=shipment.get("source") or "",
            progress=progress,
        )
    total = sum(blob.size for blob in blobs.values())
    return Came(image, sent, total - sum(blob.size for blob in lacking))


class _Nowhere:
    """All blobs are here already: whatever is asked for has vanished."""

    def stream(self, blob: Descriptor) -> Iterator[bytes]:
        raise HostctlError(
            f"cannot read {blob.digest}: it vanished from the store",
            hint="try again",
            ref="blob-lost",
        )


def _fetch(
    store: Store,
    exchange: Exchange,
    name: str,
    lacking: list[Descriptor],
    meter: Meter,
    what: str,
) -> int:
    """The bytes that came."""
    with ExitStack() as stack:
        parts: dict[str, Part] = {}
        # In one order for all processes, so that no two wait for each other.
        for blob in sorted(lacking, key=lambda one: one.digest):
            part = Part(store, blob.digest, blob.size)
            stack.callback(part.close)
            if not store.has_blob(blob.digest):  # whoever held it has brought it in
                parts[blob.digest] = part
        stack.callback(exchange.enough, name)

        def sink(digest: str, offset: int, body: bytes) -> None:
            parts[digest].write(offset, body)
            meter.add(len(body))

        wanted = [parts[blob.digest] for blob in lacking if blob.digest in parts]
        came = sum(part.size - part.position for part in wanted)
        while wanted:
            exchange.want(name, {p.digest: p.position for p in wanted if not p.whole}, sink)
            wanted = [part for part in wanted if not _arrived(exchange, name, part, what)]
            came += sum(part.size for part in wanted)
        return came


def _arrived(exchange: Exchange, name: str, part: Part, what: str) -> bool:
    """Wait for a part and give it its name; False where what was kept of it was not what it seemed to be."""
    exchange.wait(name, lambda: part.whole)
    resumed, part.kept = part.kept, 0
    if part.commit():
        return True
    if resumed:
        return False
    raise HostctlError(
        f"cannot use {part.digest} of {what}: what came has another digest",
        hint="the blob is damaged where it comes from: remove the image there, and build or pull it again",
        ref="digest-mismatch",
    )


def _manifest_of(store: Store, image: Image) -> Manifest:
    what = f"image {familiar(image.name)}"
    with open(store.blob_path(image.manifest), "rb") as file:
        raw = file.read()
    return parse_manifest(raw, image.manifest, image.media_type, what)


def _check_platform(store: Store, manifest: Manifest, what: str) -> None:
    """Refuse what no program of this host could run."""
    _, mine, _ = parse_platform("")
    theirs = store.config(manifest.image_id).get("architecture") or mine
    if theirs not in (mine, _RUNS_TOO.get(mine)):
        raise HostctlError(
            f"cannot use {what}: it is made for {theirs}, and this host is {mine}",
            hint="build it on a host of this architecture",
            ref="image-platform",
        )


def _check_space(store: Store, lacking: list[Descriptor], what: str) -> None:
    """A layer takes its blob and, unpacked, at least about as much again."""
    needs = 2 * sum(blob.size for blob in lacking)
    if not lacking or free(store) >= needs:
        return
    make_room(store, needs)
    if free(store) < needs:
        raise HostctlError(
            f"cannot get {what}: needs {needs >> 20} MiB, {free(store) >> 20} MiB free on {store.root}",
            hint="free some space there, or move hostctl's data with hostctl_data_dir",
            ref="disk-full",
        )


def layers_of(store: Store, image: Image) -> Mapping[str, int]:
    """Digest and bytes of an image's layers."""
    return {layer.digest: layer.size for layer in _manifest_of(store, image).layers}
