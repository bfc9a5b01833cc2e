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
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = "application/vnd.oci.empty.v1+json"
SIGNED = "https://sigstore.dev/cosign/sign/v1"
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


def statement(
    digest: str, predicate: str = SIGNED, kind: str = "https://in-toto.io/Statement/v1"
) -> bytes:
    """What cosign 3 signs."""
    subject = [{"digest": {"sha256": digest.partition(":")[2]}, "annotations": {}}]
    content = {"_type": kind, "subject": subject, "predicateType": predicate, "predicate": {}}
    return json.dumps(content).encode()


def bundle(data: bytes, key: Key, **more: Any) -> bytes:
    """A statement in sigstore's bundle, as `cosign sign --key` of version 3 makes it."""
    authenticated = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(data), data)
    envelope = {
        "payload": base64.b64encode(data).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": key.sign(authenticated)}],
    }
    material = {"publicKey": {"hint": "x"}, "tlogEntries": []}
    content = {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}
    return json.dumps({**content, **more}).encode()


def refer(
    registry: RunningRegistry,
    name: str,
    digest: str,
    blob: bytes,
    listed_as: str,
    predicate: str = SIGNED,
) -> None:
    """Push a bundle that refers to an image, and list it as the registry would."""
    empty = b"{}"
    for data in (blob, empty):
        registry.push_blob(name, data)
    notes = {"dev.sigstore.bundle.content": "dsse-envelope"}
    notes["dev.sigstore.bundle.predicateType"] = predicate
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": BUNDLE,
        "config": {"mediaType": EMPTY, "digest": sha256(empty), "size": 2},
        "layers": [{"mediaType": BUNDLE, "digest": sha256(blob), "size": len(blob)}],
        "annotations": notes,
    }
    raw = json.dumps(manifest).encode()
    registry.push_manifest(name, sha256(raw), raw, OCI_MANIFEST)
    shown = {"annotations": notes} if listed_as == BUNDLE else {}
    _list(registry, name, digest, raw, {"artifactType": listed_as, **shown})


def _list(
    registry: RunningRegistry, name: str, digest: str, raw: bytes, more: dict[str, Any]
) -> None:
    """docker-registry knows no referrers: clients keep an index of them under this tag (distribution-spec 1.1)."""
    listed = {"mediaType": OCI_MANIFEST, "digest": sha256(raw), "size": len(raw), **more}
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [listed]}).encode()
    registry.push_manifest(name, digest.replace(":", "-"), index, kind)


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
    registry.push_manifest(name, sha256(raw), raw, OCI_MANIFEST)
    _list(registry, name, digest, raw, {"artifactType": ARTIFACT})


def sign(registry: RunningRegistry, reference: str, digest: str, key: Key, **how: Any) -> None:
    """`cosign sign --key` of an image in this registry; `reference` without tag."""
    data = payload(reference, digest)
    name = reference.partition("/")[2]
    attach(registry, name, digest, [(data, key.sign(data))], **how)
