"""Runs on the managed host: the image store in DATA/store, an OCI image layout with unpacked layers.

```
oci-layout, index.json     what is there: one descriptor per tag, replaced atomically
blobs/sha256/HEX           manifests, configs, layers as they came
layers/HEX/                a layer, unpacked, by diff id; there only when complete
layers/HEX.json            its record: short name, sizes
l/SHORT -> ../layers/HEX   for overlay's lowerdir: mount(2) takes one page of options
tmp/NAME/                  what is on its way in; the folder is locked as long as its process lives
```

Reading takes no lock and imports nothing heavy: it is part of every run that changes nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Callable

from ..agent.files import read_json, write_json
from ..contract.errors import HostctlError
from ..contract.reference import canonical_name

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
_IMAGE_ID = "io.hostctl.image.id"
_PINNED = "io.hostctl.image.pinned"
_SOURCE = "io.hostctl.image.source"
_TAGGED = "io.hostctl.image.tagged"
_TRUSTED = "io.hostctl.image.trusted"
EMPTY_LAYER = "empty"


@dataclass(frozen=True)
class Image:
    """One tag of the store; `name` is empty for an image that lost its tag and is still in use.

    Attributes:
        image_id: hex digest of its config: equal ids are equal images.
        manifest: digest of its manifest (`sha256:...`).
        media_type: of the manifest.
        size: of the manifest, in bytes.
        pinned: digest that the registry gave for the tag: of the manifest or of the index above it.
        source: where it came from (`pull:REFERENCE`, `bootstrap:HASH`, `archive:HASH`).
        tagged: when it got its name, in seconds since 1970; 0 where nobody wrote it down.
        trusted: the mark of the rule by which its signature was found good (`contract/trust.py`).
    """

    name: str
    image_id: str
    manifest: str
    media_type: str
    size: int
    pinned: str = ""
    source: str = ""
    tagged: int = 0
    trusted: str = ""


class Store:
    """Images and layers of one host. Instances are cheap; threads may share one."""

    def __init__(self, data_dir: str) -> None:
        self.root = os.path.join(data_dir, "store")
        self._index: tuple[tuple[int, int, int], tuple[Image, ...]] | None = None

    @property
    def links_dir(self) -> str:
        """The folder of the short names: mount overlay with this as working directory."""
        return os.path.join(self.root, "l")

    def blob_path(self, digest: str) -> str:
        """Path of a blob by digest, with or without `sha256:`."""
        return os.path.join(self.root, "blobs", "sha256", digest.rpartition(":")[2])

    def layer_path(self, diff_id: str) -> str:
        """Path of an unpacked layer by diff id, with or without `sha256:`."""
        return os.path.join(self.root, "layers", diff_id.rpartition(":")[2])

    def has_blob(self, digest: str) -> bool:
        return os.path.exists(self.blob_path(digest))

    def has_layer(self, diff_id: str) -> bool:
        """Whether the layer is there complete, its short name included."""
        return os.path.exists(self.layer_path(diff_id) + ".json")

    def resolve(self, reference: str) -> str | None:
        """The image id (config digest in hex) that a tag, digest reference or image id stands for."""
        image = self.image(reference)
        return image.image_id if image else None

    def image(self, reference: str) -> Image | None:
        """What the store has under a reference, in short or full form, or under an image id."""
        images = self.images()
        wanted = canonical_name(reference)
        for image in images:
            if image.name in (wanted, reference) and image.name:
                return image
        hex_id = reference.rpartition("sha256:")[2]
        for image in images:
            if image.image_id == hex_id and "/" not in reference:
                return image
        return None

    def images(self) -> tuple[Image, ...]:
        """All images, in order of arrival."""
        path = os.path.join(self.root, "index.json")
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return ()
        key = (status.st_mtime_ns, status.st_ino, status.st_size)
        if self._index is None or self._index[0] != key:
            content = read_json(path) or {}
            self._index = (key, tuple(map(_image, content.get("manifests", ()))))
        return self._index[1]

    def config(self, image_id: str) -> dict[str, Any]:
        """The image's config (OCI image-spec: `config`, `rootfs`, `architecture`, ...)."""
        return self._json_blob(image_id, "config of image")

    def manifest(self, image: Image) -> dict[str, Any]:
        """The image's manifest (OCI or Docker schema 2)."""
        return self._json_blob(image.manifest, "manifest")

    def lower(self, image_id: str) -> list[str]:
        """Short names of the image's layers for overlay's lowerdir, top first; never empty.

        A layer that is listed twice counts where it is highest (overlay refuses repetition and the
        tree is the same); nothing below a layer that hides everything is named.
        """
        names: list[str] = []
        for diff_id in reversed(self.config(image_id).get("rootfs", {}).get("diff_ids", ())):
            record = read_json(self.layer_path(diff_id) + ".json")
            if record is None:
                raise HostctlError(
                    f"cannot use image {image_id[:12]}: its layer {diff_id} is missing from the store",
                    hint="pull the image again: hostctl apply with pull_policy: always",
                    ref="layer-missing",
                )
            if record["short"] not in names:
                names.append(record["short"])
            if record.get("opaque"):
                break
        return names or [EMPTY_LAYER]

    def tag(self, name: str, image: Image) -> None:
        """Let `name` stand for the image. What it stood for keeps no name, and goes with `collect`.

        An empty name only lists the image, until it is given one.
        """
        full = canonical_name(name) if name else ""

        def change(images: list[Image]) -> list[Image]:
            kept = [replace(i, name="") if full and i.name == full else i for i in images]
            return [*kept, replace(image, name=full, tagged=int(time.time()))]

        self._change(change)

    def untag(self, name: str) -> bool:
        """Take the name away; False if there was none. The content stays until `collect`."""
        full = canonical_name(name)
        found = any(image.name == full for image in self.images())
        if found:
            self._change(
                lambda images: [replace(i, name="") if i.name == full else i for i in images]
            )
        return found

    def forget(self, image_ids: set[str]) -> None:
        """Drop nameless entries of these images from the index."""
        self._change(lambda images: [i for i in images if i.name or i.image_id not in image_ids])

    def remove(self, name: str, in_use: AbstractSet[str] = frozenset()) -> int:
        """Untag, then remove all content that no tag and no image of `in_use` needs; bytes freed."""
        from .collect import collect

        self.untag(name)
        return collect(self, in_use)

    def _json_blob(self, digest: str, what: str) -> dict[str, Any]:
        try:
            with open(self.blob_path(digest), "rb") as stream:
                value: dict[str, Any] = json.load(stream)
        except FileNotFoundError as error:
            raise HostctlError(
                f"cannot read the {what} {digest}: not in the store",
                hint="pull the image again",
                ref="image-missing",
            ) from error
        return value

    def _change(self, change: Callable[[list[Image]], list[Image]]) -> None:
        """Replace index.json under the store's lock; one nameless entry per image is enough."""
        from .staging import prepared

        with prepared(self):
            self._index = None
            images = change(list(self.images()))
            named = {image.image_id for image in images if image.name}
            kept: dict[tuple[str, str], Image] = {}
            for image in images:
                if image.name or image.image_id not in named:
                    kept[image.name, "" if image.name else image.image_id] = image
            write_json(
                os.path.join(self.root, "index.json"),
                {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.index.v1+json",
                    "manifests": [_descriptor(image) for image in kept.values()],
                },
            )
            self._index = None


def _image(descriptor: dict[str, Any]) -> Image:
    notes = descriptor.get("annotations", {})
    return Image(
        name=notes.get(REF_NAME, ""),
        image_id=notes.get(_IMAGE_ID, ""),
        manifest=descriptor["digest"],
        media_type=descriptor["mediaType"],
        size=descriptor["size"],
        pinned=notes.get(_PINNED, ""),
        source=notes.get(_SOURCE, ""),
        tagged=int(notes.get(_TAGGED, 0)),
        trusted=notes.get(_TRUSTED, ""),
    )


def _descriptor(image: Image) -> dict[str, Any]:
    notes = {
        REF_NAME: image.name,
        CONTAINERD_NAME: image.name,
        _IMAGE_ID: image.image_id,
        _PINNED: image.pinned,
        _SOURCE: image.source,
        _TAGGED: str(image.tagged or ""),
        _TRUSTED: image.trusted,
    }
    return {
        "mediaType": image.media_type,
        "digest": image.manifest,
        "size": image.size,
        "annotations": {key: value for key, value in notes.items() if value},
    }
