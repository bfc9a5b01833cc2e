"""Runs on the managed host: brings what cosign has put beside an image: signatures and what they sign.

Where: the tag `sha256-HEX.sig` of the image's repository (cosign before 3), and what refers to the image (OCI 1.1:
bundles of cosign 3, or the same as under the tag). Nothing is believed here; sizes are bounded.
https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md, BUNDLE_SPEC.md
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..contract.errors import HostctlError
from .manifest import Descriptor

if TYPE_CHECKING:
    from .registry import Registry

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle"
# Some registries list the type of the config where the artifact's should be.
_LISTED_AS = (ARTIFACT, "application/vnd.oci.empty.v1+json", "", "None")
ANNOTATION = "dev.cosignproject.cosign/signature"
PREDICATE = "dev.sigstore.bundle.predicateType"
SIGNED = "https://sigstore.dev/cosign/sign/v1"
PAYLOAD_LIMIT = 64 << 10
BUNDLE_LIMIT = 256 << 10
COUNT_LIMIT = 64
_SIGNATURE_LIMIT = 8 << 10

Found = dict[str, str]


def signatures(registry: Registry, digest: str) -> list[Found]:
    """What may be signatures of a manifest or index: `payload` and `signature`, or `bundle` (base64), or `problem`.

    Raises:
        HostctlError: the registry cannot be asked.
    """
    found: list[Found] = []
    for item in _manifests(registry, digest):
        if isinstance(item, str):
            found.append({"problem": item})
            continue
        for layer in item:
            if len(found) == COUNT_LIMIT:
                return [*found, {"problem": f"more than {COUNT_LIMIT}: the rest was not looked at"}]
            found.append(_signature(registry, layer))
    return found


def _manifests(registry: Registry, digest: str) -> Iterator[list[dict[str, Any]] | str]:
    """The layers of each manifest of signatures, or why there are none in it."""
    tag = digest.replace(":", "-") + ".sig"
    seen = set()
    tagged = registry.optional_manifest(tag)
    if tagged is not None:
        seen.add("sha256:" + hashlib.sha256(tagged).hexdigest())
        yield _layers(tagged, f"the manifest {tag}")
    try:
        referring = registry.referrers(digest)
    except HostctlError:
        # Not every registry has that interface; those that have none answer in many ways.
        referring = []
    wanted = [one for one in referring if _may_be_signature(one)]
    for one in wanted[:COUNT_LIMIT]:
        name = str(one.get("digest"))
        if name in seen:
            continue
        seen.add(name)
        raw = registry.optional_manifest(name)
        layers = _layers(raw, f"the manifest {name}") if raw is not None else []
        if layers and not (isinstance(layers, str) and one.get("artifactType") != ARTIFACT):
            yield layers


def _may_be_signature(listed: dict[str, Any]) -> bool:
    kind, notes = str(listed.get("artifactType")), listed.get("annotations")
    predicate = notes.get(PREDICATE, SIGNED) if isinstance(notes, dict) else SIGNED
    return predicate == SIGNED and (kind in _LISTED_AS or kind.startswith(BUNDLE))


def _layers(raw: bytes, what: str) -> list[dict[str, Any]] | str:
    try:
        listed = json.loads(raw)["layers"]
        found = [one for one in listed if one["mediaType"] == PAYLOAD or _is_bundle(one)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{what} is not one of signatures"
    return found or f"{what} has no payload of the type {PAYLOAD}"


def _is_bundle(layer: dict[str, Any]) -> bool:
    return str(layer["mediaType"]).startswith(BUNDLE)


def _signature(registry: Registry, layer: dict[str, Any]) -> Found:
    digest, size = layer.get("digest"), layer.get("size")
    limit = BUNDLE_LIMIT if _is_bundle(layer) else PAYLOAD_LIMIT
    signature = ""
    if not _is_bundle(layer):
        notes = layer.get("annotations")
        signature = notes.get(ANNOTATION, "") if isinstance(notes, dict) else ""
        if not isinstance(signature, str) or not 0 < len(signature) <= _SIGNATURE_LIMIT:
            return {"problem": f"{digest} has no signature in its annotation {ANNOTATION}"}
    if not isinstance(digest, str) or not isinstance(size, int) or not 0 <= size <= limit:
        return {"problem": f"its payload {digest} has {size} bytes, at most {limit} are read"}
    data = b""
    for chunk in registry.stream(Descriptor(digest, size)):
        data += chunk
        if len(data) > size:
            break
    if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
        return {"problem": f"its payload is not {digest}, as its manifest says"}
    coded = base64.b64encode(data).decode()
    return {"payload": coded, "signature": signature} if signature else {"bundle": coded}
