"""Runs on the managed host: removes what no tag, no container and no transfer of this process needs."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet

from ..agent.files import read_json
from ..contract.errors import HostctlError
from .staging import prepared, scratch, shared
from .store import EMPTY_LAYER, Store


def collect(store: Store, in_use: AbstractSet[str] = frozenset()) -> int:
    """Remove unneeded images, blobs and layers.

    Args:
        store: the store.
        in_use: image ids (hex) that containers were made from; they stay even without a tag.
    Returns:
        Bytes of blobs and layers that were removed.
    """
    with prepared(store):
        nameless = {image.image_id for image in store.images() if not image.name}
        store.forget(nameless - in_use)
        blobs, layers = _needed(store, in_use)
        pins = {digest.rpartition(":")[2] for digest, n in shared(store).pins.items() if n > 0}
        return _remove_blobs(store, blobs | pins) + _remove_layers(store, layers | pins)


def _needed(store: Store, in_use: AbstractSet[str]) -> tuple[set[str], set[str]]:
    """Hex digests of blobs and of layers that must stay."""
    blobs: set[str] = set(in_use)
    layers: set[str] = set()
    for image in store.images():
        try:
            manifest = store.manifest(image)
        except HostctlError:
            continue
        blobs.add(image.manifest.rpartition(":")[2])
        blobs.add(image.image_id)
        blobs.update(layer["digest"].rpartition(":")[2] for layer in manifest["layers"])
        layers.update(_layers(store, image.image_id))
    for image_id in in_use:
        layers.update(_layers(store, image_id))
    return blobs, layers


def _layers(store: Store, image_id: str) -> set[str]:
    try:
        found = store.config(image_id).get("rootfs", {}).get("diff_ids", ())
    except HostctlError:
        return set()
    return {diff_id.rpartition(":")[2] for diff_id in found}


def _remove_blobs(store: Store, keep: set[str]) -> int:
    freed = 0
    folder = os.path.dirname(store.blob_path("x"))
    for name in os.listdir(folder):
        if name not in keep:
            path = os.path.join(folder, name)
            freed += os.stat(path).st_size
            os.unlink(path)
    return freed


def _remove_layers(store: Store, keep: set[str]) -> int:
    """The record goes first: without it the layer does not count as there. Then all that is left."""
    freed = 0
    folder = os.path.dirname(store.layer_path("x"))
    for name in os.listdir(folder):
        hex_digest = name.partition(".")[0]
        if not name.endswith(".json") or hex_digest in keep:
            continue
        record = read_json(os.path.join(folder, name)) or {}
        freed += record.get("size", 0)
        os.unlink(os.path.join(folder, name))
    for link in os.listdir(store.links_dir):
        path = os.path.join(store.links_dir, link)
        hex_digest = os.path.basename(os.readlink(path))
        if hex_digest not in keep and hex_digest != EMPTY_LAYER:
            os.unlink(path)
    with scratch(store) as doomed:
        for name in os.listdir(folder):
            if not name.endswith(".json") and name not in keep and name != EMPTY_LAYER:
                os.rename(os.path.join(folder, name), os.path.join(doomed, name))
    return freed
