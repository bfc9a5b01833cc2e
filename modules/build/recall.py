"""Runs on the managed host: what whole builds gave, so that one that nothing has changed for is only looked up.

`DATA/build/whole/DIGEST` is JSON, by the digest of the request. It says what the build went through, and holds only
as long as a walk through all steps would find the same: the bases' names stand for the same images, each step is in
the cache with its layer, and the names that are asked for stand for the image already. So nothing is written but
the marks of use, and neither the Dockerfile's reader nor the builder is imported. A build that has asked other
servers (ADD of a URL) is never recalled.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..agent.files import private_folder, read_json, write_json
from ..contract.document import canonical, digest
from ..contract.errors import HostctlError
from ..store.store import Image, Store
from . import cache

if TYPE_CHECKING:
    from .site import Site

SOURCE = "build:"
_AGENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder of this agent, which is named by its content: another one may understand a Dockerfile differently."""


def source_of(request: dict[str, Any]) -> str:
    """What the store records as the source of a build's image, by the request as it travels."""
    return SOURCE + digest(canonical(request))


def remember(site: Site, source: str, image: Image, image_key: str) -> None:
    """Write down what this build went through. No sync: a power cut costs a walk through the steps."""
    if site.asked_others or site.build.no_cache or site.build.pull:
        return
    private_folder(cache.whole(site.data))
    write_json(
        _path(site.data, source),
        {
            "agent": _AGENT,
            "image": image.image_id,
            "manifest": image.manifest,
            "bases": site.bases,
            "steps": site.steps,
            "record": image_key,
            "events": site.events,
        },
        sync=False,
    )


def recall(
    store: Store, data: str, request: dict[str, Any], names: list[str]
) -> tuple[Image, list[dict[str, Any]]] | None:
    """The image of this very build and what its steps are called, or None: it has to be gone through."""
    if request.get("no_cache") or request.get("pull"):
        return None
    source = source_of(request)
    try:
        found = read_json(_path(data, source))
        image = _still_there(store, data, found, source, names) if found else None
    except (HostctlError, KeyError, TypeError):
        return None  # damaged: the build writes it anew
    if image is None:
        return None
    cache.used(data, [*found["steps"], found["record"]])
    os.utime(_path(data, source))
    return image, found["events"]


def _still_there(
    store: Store, data: str, found: dict[str, Any], source: str, names: list[str]
) -> Image | None:
    if found["agent"] != _AGENT:
        return None
    listed: list[Image | None] = [store.image(name) for name in names]
    if not names:
        listed += [one for one in store.images() if one.manifest == found["manifest"]][:1]
    for image in listed:
        if image is None or image.manifest != found["manifest"] or image.source != source:
            return None
    for reference, image_id in found["bases"].items():
        if store.resolve(reference) != image_id:
            return None
    for key, diff_id in found["steps"].items():
        record = cache.read(data, key)
        if record is None or record.get("diff_id") != diff_id or not store.has_layer(diff_id):
            return None
    blobs = (found["manifest"], found["image"])
    if cache.read(data, found["record"]) is None or not all(map(store.has_blob, blobs)):
        return None
    return listed[0] if listed else None


def _path(data: str, source: str) -> str:
    return os.path.join(cache.whole(data), source[len(SOURCE) :])
