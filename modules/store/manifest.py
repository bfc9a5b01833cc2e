"""Runs on the managed host: manifests and indexes of OCI and of Docker's schema 2, checked."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from ..contract.errors import HostctlError

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
SIZE_LIMIT = 8 << 20
_LAYERS = 500
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "i686": "386",
    "i386": "386",
}


@dataclass(frozen=True)
class Descriptor:
    """One blob that a manifest names."""

    digest: str
    size: int
    media_type: str = ""


@dataclass(frozen=True)
class Manifest:
    """One image's manifest; `raw` is what its digest is of."""

    digest: str
    media_type: str
    raw: bytes
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def image_id(self) -> str:
        """The hex digest of its config."""
        return self.config.digest.partition(":")[2]


def media_type_of(raw: bytes, claimed: str, what: str) -> tuple[str, dict[str, Any]]:
    """The kind of manifest and its content; `claimed` (a header's word) decides only if it says nothing.

    Raises:
        HostctlError: `image-manifest` if it is none that can be used.
    """
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _error(what, "its manifest is not JSON")
    media_type = content.get("mediaType") or claimed.partition(";")[0].strip()
    if media_type in INDEXES + MANIFESTS:
        return media_type, content
    if content.get("schemaVersion") == 1:
        raise _error(
            what,
            "it is in Docker's schema 1, which no registry makes any more",
            "push the image again with a current tool",
        )
    if isinstance(content.get("manifests"), list):
        return OCI_INDEX, content
    if isinstance(content.get("layers"), list) and isinstance(content.get("config"), dict):
        return OCI_MANIFEST, content
    raise _error(what, f"it is of type {media_type!r}, which is no image")


def parse_manifest(raw: bytes, digest: str, claimed: str, what: str) -> Manifest:
    """An image's manifest from bytes whose digest the caller has verified."""
    media_type, content = media_type_of(raw, claimed, what)
    if media_type not in MANIFESTS:
        raise _error(what, "an index stands where an image's manifest should be")
    layers = content.get("layers")
    if not isinstance(layers, list) or len(layers) > _LAYERS:
        raise _error(what, "its manifest lists no layers, or too many")
    for layer in layers:
        kind = str(layer.get("mediaType", "")) if isinstance(layer, dict) else ""
        if "foreign" in kind or "nondistributable" in kind or (layer and layer.get("urls")):
            raise _error(what, "it has foreign layers, which lie outside of the registry")
        if "encrypted" in kind:
            raise _error(what, "its layers are encrypted")
    return Manifest(
        digest=digest,
        media_type=media_type,
        raw=raw,
        config=_descriptor(content.get("config"), what),
        layers=tuple(_descriptor(layer, what) for layer in layers),
    )


def diff_ids(config: bytes, manifest: Manifest, what: str) -> list[str]:
    """The diff ids of the layers (hex) from a verified config."""
    try:
        content = json.loads(config)
        found = content["rootfs"]["diff_ids"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _error(
            what, "its config says nothing about layers: it is no container image"
        ) from None
    if not isinstance(found, list) or len(found) != len(manifest.layers):
        raise _error(what, "config and manifest disagree about the layers")
    if not all(isinstance(item, str) and _DIGEST.fullmatch(item) for item in found):
        raise _error(what, "its config has a diff id that is not sha256")
    return [item.partition(":")[2] for item in found]


def choose(content: dict[str, Any], platform: str, what: str) -> Descriptor:
    """The manifest of an index for a platform (`os/architecture[/variant]`; empty: this machine's).

    Raises:
        HostctlError: `image-platform`, with the platforms that there are.
    """
    wanted = parse_platform(platform)
    offered = []
    for item in content.get("manifests") or ():
        has = item.get("platform") if isinstance(item, dict) else None
        if not isinstance(has, dict):
            has = {}
        found = (has.get("os", ""), has.get("architecture", ""), has.get("variant", ""))
        if found[0] == "unknown":
            # Attestations: no images.
            continue
        offered.append((found, item))
    for exact in (True, False):
        for found, item in offered:
            if found[:2] == wanted[:2] and (
                found[2] == wanted[2] or (not exact and _fits(found, wanted))
            ):
                return _descriptor(item, what)
    if len(offered) == 1 and offered[0][0] == ("", "", ""):
        return _descriptor(offered[0][1], what)
    names = sorted({"/".join(filter(None, found)) for found, _ in offered})
    raise HostctlError(
        f"cannot use {what} on {'/'.join(filter(None, wanted))}: it exists for {', '.join(names) or 'nothing'}",
        hint="set `platform:` to one of them, or use another image",
        ref="image-platform",
    )


def parse_platform(platform: str) -> tuple[str, str, str]:
    """os, architecture and variant; of this machine if nothing is given."""
    if not platform:
        machine = os.uname().machine
        platform = f"linux/{_ARCHITECTURES.get(machine, machine)}"
    parts = [*platform.split("/"), "", ""]
    if "/" not in platform:
        parts = ["linux", platform, ""]
    system, architecture, variant = parts[:3]
    if architecture in _ARCHITECTURES:
        architecture, _, default = _ARCHITECTURES[architecture].partition("/")
        variant = variant or default
    return system, architecture, variant


def _fits(found: tuple[str, str, str], wanted: tuple[str, str, str]) -> bool:
    """arm64 has one variant in use; a later 32-bit ARM runs what an earlier one does."""
    if found[1] == "arm":
        return not wanted[2] or found[2] <= wanted[2]
    return not found[2] or not wanted[2] or found[1] == "arm64"


def _descriptor(item: Any, what: str) -> Descriptor:
    digest = item.get("digest") if isinstance(item, dict) else None
    size = item.get("size") if isinstance(item, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _error(what, f"its manifest names {str(digest)[:80]!r}, which is no sha256 digest")
    if not isinstance(size, int) or size < 0:
        raise _error(what, "its manifest names a blob without a size")
    return Descriptor(digest, size, str(item.get("mediaType", "")))


def _error(what: str, cause: str, hint: str = "") -> HostctlError:
    return HostctlError(f"cannot use {what}: {cause}", hint=hint, ref="image-manifest")
