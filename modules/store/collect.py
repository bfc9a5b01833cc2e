"""Runs on the managed host: removes what no tag, no container, no build and no transfer needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from ..agent.files import read_json
from ..contract.errors import HostctlError
from . import shifted as shifted_copies
from .parts import sweep_parts
from .staging import pins, prepared, scratch, sweep
from .store import EMPTY_LAYER, Image, Store


@dataclass
class Content:
    """Blobs and layers: hex digest -> bytes on the disk."""

    blobs: dict[str, int] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all together."""
        return sum(self.blobs.values()) + sum(self.layers.values())

    def without(self, other: Content) -> Content:
        """What the other one does not have."""
        return Content(
            {name: size for name, size in self.blobs.items() if name not in other.blobs},
            {name: size for name, size in self.layers.items() if name not in other.layers},
        )


def collect(store: Store, in_use: AbstractSet[str] = frozenset()) -> int:
    """Remove unneeded images, blobs and layers.

    Args:
        store: the store.
        in_use: image ids (hex) that must stay even without a tag: containers were made from them.
    Returns:
        Bytes of blobs and layers that were removed.
    """
    with prepared(store):
        sweep(store)
        sweep_parts(store)
        nameless = {image.image_id for image in store.images() if not image.name}
        store.forget(nameless - in_use)
        doomed = unneeded(store, store.images(), in_use)
        _remove_blobs(store, doomed)
        _remove_layers(store, doomed)
    return doomed.size


def unneeded(
    store: Store,
    images: Iterable[Image],
    in_use: AbstractSet[str] = frozenset(),
    *,
    cache: bool = True,
) -> Content:
    """What would go if the store had these images only (nameless ones count where they are in use).

    Args:
        cache: what builds have made before stays.
    """
    kept = [image for image in images if image.name or image.image_id in in_use]
    needed = content_of(store, kept, in_use)
    extra = dict.fromkeys(pins(store) | (cached(store) if cache else set()), 0)
    needed.blobs.update(extra)
    needed.layers.update(extra)
    return all_content(store).without(needed)


def cached(store: Store) -> set[str]:
    """Hex diff ids of the layers that the build cache names; their blobs are plain and have the same digests."""
    data = os.path.dirname(store.root)
    if not os.path.isdir(os.path.join(data, "build", "cache")):
        return set()
    from ..build.cache import kept

    return kept(data)


def content_of(
    store: Store, images: Iterable[Image], in_use: AbstractSet[str] = frozenset()
) -> Content:
    """What these images consist of; of those `in_use` config and layers, as far as they are there."""
    found = Content()
    ids = set(in_use)
    for image in images:
        ids.add(image.image_id)
        try:
            layers = store.manifest(image)["layers"]
        except HostctlError:
            continue
        for digest in (image.manifest, *(layer["digest"] for layer in layers)):
            found.blobs[digest.rpartition(":")[2]] = blob_size(store, digest)
    for image_id in ids:
        found.blobs[image_id] = blob_size(store, image_id)
        for diff_id in layers_of(store, image_id):
            found.layers[diff_id] = layer_size(store, diff_id)
    return found


def all_content(store: Store) -> Content:
    """Everything in the store, with or without a name."""
    return Content(
        {name: blob_size(store, name) for name in _names(store.blob_path("x")) if name[0] != "."},
        {
            name[:-5]: layer_size(store, name[:-5])
            for name in _names(store.layer_path("x"))
            if name.endswith(".json") and name[0] != "."
        },
    )


def layers_of(store: Store, image_id: str) -> list[str]:
    """Hex diff ids of an image's layers, the lowest first; none where its config is missing."""
    try:
        found = store.config(image_id).get("rootfs", {}).get("diff_ids", ())
    except HostctlError:
        return []
    return [diff_id.rpartition(":")[2] for diff_id in found]


def blob_size(store: Store, digest: str) -> int:
    """Bytes of a blob; 0 where it is not there."""
    try:
        return os.stat(store.blob_path(digest)).st_size
    except FileNotFoundError:
        return 0


def layer_size(store: Store, diff_id: str) -> int:
    """Bytes of a layer's files; 0 where it is not there."""
    record = read_json(store.layer_path(diff_id) + ".json") or {}
    return int(record.get("size", 0))


def _names(path: str) -> list[str]:
    try:
        return os.listdir(os.path.dirname(path))
    except FileNotFoundError:
        return []


def _remove_blobs(store: Store, doomed: Content) -> None:
    for name in doomed.blobs:
        os.unlink(store.blob_path(name))


def _remove_layers(store: Store, doomed: Content) -> None:
    """The record goes first: without it the layer does not count as there. Then all that is left."""
    for name in doomed.layers:
        os.unlink(store.layer_path(name) + ".json")
    folder = os.path.dirname(store.layer_path("x"))
    there = {name[:-5] for name in os.listdir(folder) if name.endswith(".json")} | {EMPTY_LAYER}
    for link in os.listdir(store.links_dir):
        path = os.path.join(store.links_dir, link)
        if os.path.basename(os.readlink(path)) not in there:
            os.unlink(path)
    with scratch(store) as room:
        for name in os.listdir(folder):
            if not name.endswith(".json") and name not in there:
                os.rename(os.path.join(folder, name), os.path.join(room, name))
        shifted_copies.collect(store, room)
