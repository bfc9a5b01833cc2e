"""Runs on the managed host: makes an image of a stage: config, manifest, names."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from ..contract.document import digest
from ..store.layer import pack
from ..store.manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, parse_platform
from ..store.staging import commit_blob, pinned, put_blob, scratch
from ..store.store import Image, Store
from . import cache
from .site import Site, stamp
from .state import State


def image_key(state: State, site: Site) -> str:
    """What tells one image from another, times left out."""
    history = [
        [item.get("created_by", ""), item.get("empty_layer", False)] for item in state.history
    ]
    return cache.key(
        "image", state.layers, state.config, history, state.author, site.latest, site.build.labels
    )


def config_of(state: State, site: Site, created: str) -> bytes:
    """The image's config (OCI image-spec config.md)."""
    system, architecture, variant = parse_platform("")
    settings = dict(state.config)
    if site.build.labels:
        settings["Labels"] = {**(settings.get("Labels") or {}), **site.build.labels}
    content: dict[str, Any] = {
        "created": created,
        "os": system,
        "architecture": architecture,
        **({"variant": variant} if variant else {}),
        **({"author": state.author} if state.author else {}),
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{item}" for item in state.layers]},
        "history": [{"created": created, **item} for item in state.history],
    }
    return json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")


def known(state: State, site: Site) -> str | None:
    """The id of the image, if it was made before."""
    record = cache.read(site.data, image_key(state, site))
    if record is None or "created" not in record:
        return None
    return digest(config_of(state, site, record["created"]))


def finish(state: State, site: Site, names: list[str], origin: str) -> Image:
    """Bring the image into the store under these names; nameless where there is none."""
    site.commit()
    key = image_key(state, site)
    record = cache.read(site.data, key)
    if record is None or site.build.no_cache:
        record = {"created": stamp(site.latest)}
        cache.write(site.data, key, record)
    else:
        cache.used(site.data, [key])
    config = config_of(state, site, record["created"])
    layers = [
        state.blobs.get(diff_id) or _own_layer(site.store, diff_id) for diff_id in state.layers
    ]
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": OCI_CONFIG,
                "digest": f"sha256:{digest(config)}",
                "size": len(config),
            },
            "layers": layers,
        },
        sort_keys=True,
    ).encode()
    manifest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    image = Image(
        name="",
        image_id=digest(config),
        manifest=manifest,
        media_type=OCI_MANIFEST,
        size=len(raw),
        pinned=manifest,
        source=origin,
    )
    needed = [manifest, digest(config), *state.layers, *(item["digest"] for item in layers)]
    with pinned(site.store, needed):
        put_blob(site.store, digest(config), config)
        put_blob(site.store, manifest, raw)
        for name in names or [""]:
            have = site.store.image(name) if name else None
            if have is None or have.manifest != manifest or have.source != origin:
                site.store.tag(name, image)
    return image


def _own_layer(store: Store, diff_id: str) -> dict[str, Any]:
    """The descriptor of a layer that was built here; its tar is made again where only the tree was kept."""
    path = store.blob_path(diff_id)
    if not os.path.exists(path):
        with scratch(store) as folder:
            blob = os.path.join(folder, "blob")
            with open(blob, "xb") as file:
                found = pack(store.layer_path(diff_id), file)
                file.flush()
                os.fsync(file.fileno())
            assert found.diff_id == diff_id
            commit_blob(store, f"sha256:{diff_id}", blob)
    return {
        "mediaType": OCI_LAYER,
        "digest": f"sha256:{diff_id}",
        "size": os.stat(path).st_size,
    }
