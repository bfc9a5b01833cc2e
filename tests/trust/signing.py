"""Runs in tests: signs images as `cosign sign --key` does, with keys of its own."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from tests.store.layers import OCI_CONFIG, OCI_MANIFEST, sha256
from tests.store.registries import RunningRegistry

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"


class Key:
    """A key pair: `ecdsa` as cosign generates them, `rsa` or `ed25519`."""

    def __init__(self, kind: str = "ecdsa") -> None:
        self.kind = kind
        if kind == "ecdsa":
            self.private: Any = ec.generate_private_key(ec.SECP256R1())
        elif kind == "rsa":
            self.private = rsa.generate_private_key(65537, 2048)
        else:
            self.private = ed25519.Ed25519PrivateKey.generate()

    @property
    def public(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def secret(self) -> str:
        """The private key, as nobody should hand it out."""
        form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self.private.private_bytes(serialization.Encoding.PEM, form, none).decode()

    def sign(self, data: bytes) -> str:
        if self.kind == "ecdsa":
            made = self.private.sign(data, ec.ECDSA(hashes.SHA256()))
        elif self.kind == "rsa":
            made = self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        else:
            made = self.private.sign(data)
        return base64.b64encode(made).decode()


def payload(reference: str, digest: str, **critical: Any) -> bytes:
    """What cosign signs, byte for byte as it writes it."""
    content = {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
            **critical,
        },
        "optional": None,
    }
    return json.dumps(content, separators=(",", ":")).encode()


def sent(data: bytes, signature: str) -> dict[str, str]:
    """A signature as hosts send it to the controller."""
    return {"payload": base64.b64encode(data).decode(), "signature": signature}


def attach(
    registry: RunningRegistry,
    name: str,
    digest: str,
    signatures: list[tuple[bytes, str]],
    *,
    referring: bool = False,
) -> None:
    """Push signatures of an image: under their tag, or as what refers to it (OCI 1.1)."""
    layers = []
    for data, signature in signatures:
        registry.push_blob(name, data)
        notes = {ANNOTATION: signature} if signature else {}
        layers.append(
            {"mediaType": PAYLOAD, "digest": sha256(data), "size": len(data), "annotations": notes}
        )
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}}).encode()
    registry.push_blob(name, config)
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": ARTIFACT if referring else OCI_CONFIG,
            "digest": sha256(config),
            "size": len(config),
        },
        "layers": layers,
    }
    raw = json.dumps(manifest).encode()
    if not referring:
        registry.push_manifest(name, digest.replace(":", "-") + ".sig", raw, OCI_MANIFEST)
        return
    # docker-registry knows no referrers: clients keep an index of them under this tag (distribution-spec 1.1).
    registry.push_manifest(name, sha256(raw), raw, OCI_MANIFEST)
    listed = {
        "mediaType": OCI_MANIFEST,
        "digest": sha256(raw),
        "size": len(raw),
        "artifactType": ARTIFACT,
    }
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [listed]}).encode()
    registry.push_manifest(name, digest.replace(":", "-"), index, kind)


def sign(registry: RunningRegistry, reference: str, digest: str, key: Key, **how: Any) -> None:
    """`cosign sign --key` of an image in this registry; `reference` without tag."""
    data = payload(reference, digest)
    name = reference.partition("/")[2]
    attach(registry, name, digest, [(data, key.sign(data))], **how)
