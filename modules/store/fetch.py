"""Runs on the managed host: brings one image into the store from wherever it is: the same way for all.

A source gives blobs by digest. Each layer is hashed, stored and unpacked while it streams, layers in
parallel; what two images share is fetched once. Nothing gets a name before its digests are verified.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from typing import Callable, Protocol

from ..contract.errors import HostctlError
from .decompress import decompress
from .manifest import SIZE_LIMIT, Descriptor, Manifest, diff_ids
from .pump import Pump
from .staging import (
    commit_blob,
    commit_layer,
    exclusive,
    pinned,
    put_blob,
    scratch,
    sweep,
    sync,
)
from .store import Image, Store
from .tidy import free as free_bytes
from .tidy import make_room
from .unpack import Unpacked, disk_full, unpack

PARALLEL = 4
_CHUNK = 1 << 20
_WRITE_EVERY = 8 << 20
Step = Callable[[int], None]


def _silent(message: str) -> None:
    pass


def _no_step(count: int) -> None:
    pass


class Source(Protocol):
    """Where an image's blobs come from: a registry, an archive, another host."""

    def stream(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob's bytes; the caller verifies them."""


def bring(
    store: Store,
    source: Source,
    manifest: Manifest,
    what: str,
    *,
    name: str,
    pinned_digest: str = "",
    origin: str = "",
    trusted: str = "",
    progress: Callable[[str], None] = _silent,
) -> Image:
    """Fetch, verify, unpack and tag one image.

    Args:
        store: where to.
        source: where from.
        manifest: the image's manifest, verified.
        what: what messages call it.
        name: the tag that it gets.
        pinned_digest: what the registry calls it; default the manifest's own digest.
        origin: recorded as the image's source.
        trusted: recorded as the mark of the rule that it was found to keep.
        progress: takes a line such as `pulling 12/96 MB`.
    Raises:
        HostctlError: nothing is tagged then; verified layers stay for the next attempt.
    """
    image = Image(
        name=name,
        image_id=manifest.image_id,
        manifest=manifest.digest,
        media_type=manifest.media_type,
        size=len(manifest.raw),
        pinned=pinned_digest or manifest.digest,
        source=origin,
        trusted=trusted,
    )
    sweep(store)
    blobs = [manifest.config, *manifest.layers]
    with pinned(store, [manifest.digest, *(blob.digest for blob in blobs)]):
        config = small_blob(store, source, manifest.config, what)
        ids = diff_ids(config, manifest, what)
        with pinned(store, [f"sha256:{item}" for item in ids]):
            layers = list(dict.fromkeys(zip(manifest.layers, ids)))
            missing = [
                (blob, diff)
                for blob, diff in layers
                if not (store.has_layer(diff) and store.has_blob(blob.digest))
            ]
            _check_space(store, missing, what)
            meter = Meter(sum(blob.size for blob, _ in missing), progress, "pulling")
            _fetch_all(store, source, missing, what, meter)
            put_blob(store, manifest.config.digest, config)
            put_blob(store, manifest.digest, manifest.raw)
            store.tag(name, image)
    return image


def small_blob(store: Store, source: Source, blob: Descriptor, what: str) -> bytes:
    """A config's bytes, from the store or verified from the source."""
    if store.has_blob(blob.digest):
        with open(store.blob_path(blob.digest), "rb") as file:
            return file.read()
    if blob.size > SIZE_LIMIT:
        raise HostctlError(
            f"cannot use {what}: its config has {blob.size >> 20} MiB", ref="image-manifest"
        )
    data = b"".join(_bounded(source.stream(blob), blob, what))
    verify(blob.digest, hashlib.sha256(data).hexdigest(), f"the config of {what}")
    return data


def verify(expected: str, got: str, what: str) -> None:
    """Raise `digest-mismatch` if two digests differ (`sha256:` may be left out)."""
    if expected.rpartition(":")[2] != got.rpartition(":")[2]:
        raise HostctlError(
            f"cannot use {what}: expected sha256:{expected.rpartition(':')[2]}, "
            f"got sha256:{got.rpartition(':')[2]}",
            hint="the transfer or the registry is broken; nothing was kept, try again",
            ref="digest-mismatch",
        )


class Meter:
    """Adds up bytes from all threads and shows about four times a second `pulling 12/96 MB`.

    Args:
        total: bytes that there will be.
        show: takes the line.
        doing: its first word.
    """

    def __init__(self, total: int, show: Callable[[str], None], doing: str) -> None:
        import threading
        import time

        self._total = total
        self._doing = doing
        self._done = 0
        self._show = show
        self._clock = time.monotonic
        self._shown = 0.0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """So many bytes more; threads may call it."""
        with self._lock:
            self._done += count
            now = self._clock()
            if now - self._shown < 0.25:
                return
            self._shown = now
            text = f"{self._doing} {self._done / 1e6:.0f}/{self._total / 1e6:.0f} MB"
        self._show(text)


def _check_space(store: Store, layers: list[tuple[Descriptor, str]], what: str) -> None:
    """Refuse what cannot fit: a layer takes its blob and, unpacked, at least about as much again."""
    needs = sum(
        blob.size * ((not store.has_blob(blob.digest)) + (not store.has_layer(diff)))
        for blob, diff in layers
    )
    free = free_bytes(store)
    if needs > free:
        make_room(store, needs)
        free = free_bytes(store)
    if needs > free:
        raise HostctlError(
            f"cannot pull {what}: needs {needs >> 20} MiB, {free >> 20} MiB free on {store.root}",
            hint="free some space there, or move hostctl's data with hostctl_data_dir",
            ref="disk-full",
        )


def _fetch_all(
    store: Store,
    source: Source,
    layers: list[tuple[Descriptor, str]],
    what: str,
    meter: Meter,
) -> None:
    if len(layers) < 2:
        for blob, diff in layers:
            _fetch_layer(store, source, blob, diff, what, meter.add, alone=True)
        return
    # Not from the package itself: its lazy attribute is not safe between threads in 3.9.
    from concurrent.futures.thread import ThreadPoolExecutor

    # The largest first, so that the last one to end is not the longest.
    ordered = sorted(layers, key=lambda layer: -layer[0].size)
    with ThreadPoolExecutor(PARALLEL) as pool:
        jobs = [
            pool.submit(_fetch_layer, store, source, blob, diff, what, meter.add)
            for blob, diff in ordered
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def _fetch_layer(
    store: Store,
    source: Source,
    blob: Descriptor,
    diff_id: str,
    what: str,
    step: Step,
    *,
    alone: bool = False,
) -> None:
    """Fetch what is missing of a layer, verify it, and give it its name.

    Args:
        alone: no other layer is on its way, which would take the other processors.
    """
    with exclusive(store, blob.digest), exclusive(store, "layer:" + diff_id):
        has_blob, has_layer = store.has_blob(blob.digest), store.has_layer(diff_id)
        if has_blob and has_layer:
            step(blob.size)
            return
        with scratch(store) as folder:
            packed = os.path.join(folder, "blob")
            came = _from_file(store.blob_path(blob.digest)) if has_blob else source.stream(blob)
            digest = hashlib.sha256()
            chunks = _bounded(came, blob, what, step)
            chunks = (
                _hashed(chunks, digest.update) if has_blob else _kept(chunks, packed, digest.update)
            )
            layer = f"layer {blob.digest} of {what}"
            unpacked = None
            try:
                if has_layer:
                    for _ in chunks:
                        pass
                else:
                    unpacked = _unpack_beside(chunks, folder, alone)
            except HostctlError as error:
                if error.ref == "layer-broken":
                    # Broken data with a wrong digest is a wrong digest: all of it has been read.
                    verify(blob.digest, digest.hexdigest(), layer)
                raise
            verify(blob.digest, digest.hexdigest(), layer)
            if unpacked is not None:
                verify(diff_id, unpacked.diff_id, f"{layer} (unpacked)")
            sync(store)
            if not has_blob:
                commit_blob(store, blob.digest, packed)
            if unpacked is not None:
                root = os.path.join(folder, "root")
                commit_layer(store, diff_id, root, unpacked.opaque, unpacked.size)


def _unpack_beside(chunks: Iterator[bytes], folder: str, alone: bool) -> Unpacked:
    """Unpack in this thread what another one fetches and hashes; a third one decompresses a layer that is alone."""
    pump = Pump(chunks)
    plain: list[Pump] = []

    def flow(pieces: Iterator[bytes]) -> Pump:
        plain.append(Pump(pieces))
        return plain[0]

    try:
        try:
            return unpack(decompress(pump, folder), folder, flow=flow if alone else iter)
        finally:
            for one in plain:
                one.stop()
    except HostctlError as error:
        if error.ref == "layer-broken":
            pump.drain()
        raise
    finally:
        pump.stop()


def _from_file(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while True:
            chunk = file.read(_CHUNK)
            if not chunk:
                return
            yield chunk


def _bounded(
    chunks: Iterator[bytes], blob: Descriptor, what: str, step: Step = _no_step
) -> Iterator[bytes]:
    """Exactly as many bytes as the manifest says, or an error."""
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > blob.size:
            break
        step(len(chunk))
        yield chunk
    if count != blob.size:
        raise HostctlError(
            f"cannot use {blob.digest} of {what}: expected {blob.size} bytes, got "
            f"{'more' if count > blob.size else count}",
            hint="the transfer or the registry is broken; nothing was kept, try again",
            ref="digest-mismatch",
        )


def _hashed(chunks: Iterator[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in chunks:
        update(chunk)
        yield chunk


def _kept(chunks: Iterator[bytes], path: str, update: Callable[[bytes], None]) -> Iterator[bytes]:
    """Hash and store on the way."""
    unwritten = 0
    with open(path, "xb", buffering=0) as file:
        for chunk in chunks:
            update(chunk)
            _write(file.fileno(), chunk, path)
            unwritten += len(chunk)
            if unwritten > _WRITE_EVERY:
                # The disk begins now (posix_fadvise(2)), so that the sync at the end has less to wait for.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                unwritten = 0
            yield chunk


def _write(fd: int, chunk: bytes, path: str) -> None:
    rest = memoryview(chunk)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(os.path.dirname(path), 0) from error
            raise
