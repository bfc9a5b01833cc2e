"""Runs on the controller: signatures of images in sigstore's bundles, as cosign 3 makes them with a key.

A DSSE envelope around an in-toto statement about the image's digest. It names no repository. Attestations look the
same but for their predicate, and are no signatures. https://github.com/secure-systems-lab/dsse/blob/master/protocol.md,
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from hostctl_host.contract.trust import Rule

from .signatures import check_keys, line

IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/"
SIGNED = "https://sigstore.dev/cosign/sign/v1"


def check_bundle(rule: Rule, digest: str, text: str) -> None:
    """Raise ValueError, with the reason, unless a key of the rule has signed the image in this bundle (base64)."""
    try:
        content: Any = json.loads(base64.b64decode(text, validate=True))
        material = content.get("verificationMaterial") or {}
        envelope = content["dsseEnvelope"]
        kind = envelope["payloadType"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        made = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        keyless = "certificate" in material or "x509CertificateChain" in material
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise ValueError("it is no bundle with a signed statement") from None
    if keyless:
        raise ValueError("it was made with a certificate (keyless), not with a key")
    if kind != IN_TOTO:
        raise ValueError(f"it signs {line(kind)!r}, no statement about an image")
    check_keys(rule, made[:8], pre_authentication(kind, payload))
    try:
        statement: Any = json.loads(payload)
        predicate = statement["predicateType"]
        named = [one["digest"].get("sha256") for one in statement["subject"]]
        form = str(statement["_type"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("what it signs is no statement") from None
    if not form.startswith(STATEMENT) or predicate != SIGNED:
        raise ValueError(f"it is an attestation ({line(predicate)}), no signature")
    if digest.partition(":")[2] not in named:
        shown = ", ".join(f"sha256:{one}" for one in named[:2])
        raise ValueError(f"it is for another image: {line(shown)}")


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """What is signed of an envelope."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)
