"""Runs on the controller: says whether one of the signatures that a host has brought is worth something.

cosign's signatures by key: over the bytes of a payload in Red Hat's simple signing format, or in a bundle (cosign 3,
`bundles.py`). Offline: no transparency log is asked.
https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md, containers-signature(5)
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.reference import Reference, parse
from hostctl_host.contract.trust import Rule

TYPES = ("cosign container image signature", "atomic container signature")
_SHOWN = 3
_LINE = 200
Verify = Callable[[bytes, bytes], None]


def problem(rule: Rule, reference: str, digest: str, found: Iterable[Mapping[str, str]]) -> str:
    """Why none of the signatures makes the image one that the rule lets through; empty if one does.

    Args:
        reference: what was asked for.
        digest: `sha256:...`, what the registry says that this is: the host pulls nothing else.
        found: as `store/signatures.py` of the host sends them. Not one byte of it is to be believed.
    """
    why = []
    for one in found:
        try:
            _check(rule, parse(reference), digest, one)
        except ValueError as error:
            why.append(str(error))
        else:
            return ""
    if not why:
        return f"{digest} is not signed"
    listed = "; ".join(dict.fromkeys(why[:_SHOWN]))
    more = f"; and {len(why) - _SHOWN} more" if len(why) > _SHOWN else ""
    if len(why) == 1:
        return f"its signature does not count: {listed}"
    return f"none of its {len(why)} signatures counts: {listed}{more}"


@lru_cache(maxsize=64)
def load(pem: str) -> Verify:
    """A function of signature and data, for one public key. Raises ValueError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if "PRIVATE KEY" in pem:
        raise ValueError("it is a private key; give the public one (cosign public-key --key KEY)")
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it is no public key in PEM") from None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _elliptic(key)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key
        if numbers.key_size < 2048:
            raise ValueError(f"an RSA key of {numbers.key_size} bits is too short")
        return lambda signature, data: numbers.verify(
            signature, data, padding.PKCS1v15(), hashes.SHA256()
        )
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.verify
    raise ValueError("it is none of ECDSA, RSA and Ed25519")


def _check(rule: Rule, asked: Reference, digest: str, found: Mapping[str, str]) -> None:
    """Raise ValueError, with the reason, unless this signature counts. What is signed is read last."""
    if found.get("problem"):
        raise ValueError(line(found["problem"]))
    if "bundle" in found:
        from .bundles import check_bundle

        check_bundle(rule, digest, found["bundle"])
        return
    try:
        payload = base64.b64decode(found["payload"], validate=True)
        signature = base64.b64decode("".join(found["signature"].split()), validate=True)
    except (KeyError, AttributeError, TypeError, binascii.Error, ValueError):
        raise ValueError("it is not base64") from None
    check_keys(rule, [signature], payload)
    kind, named, identity = _read(payload)
    if kind not in TYPES:
        raise ValueError(f"it signs a {line(kind)!r}, no image")
    if named != digest:
        raise ValueError(f"it is for another image: {line(named)}")
    _same_place(rule, asked, identity)


def check_keys(rule: Rule, signatures: Iterable[bytes], data: bytes) -> None:
    """Raise ValueError unless a key of the rule has made one of these of the data."""
    if not any(_fits(load(key), one, data) for one in signatures for key in rule.keys):
        keys = "the key of the rule" if len(rule.keys) == 1 else "any key of the rule"
        raise ValueError(f"it was not made with {keys}, or the payload was changed afterwards")


def _elliptic(key: Any) -> Verify:
    """ECDSA with SHA-256, as cosign's own keys; with larger curves perhaps with the hash of their size."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    larger = {384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.key_size)

    def verify(signature: bytes, data: bytes) -> None:
        try:
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            if larger is None:
                raise
            key.verify(signature, data, ec.ECDSA(larger))

    return verify


def _fits(verify: Verify, signature: bytes, payload: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        verify(signature, payload)
    except InvalidSignature:
        return False
    return True


def _read(payload: bytes) -> tuple[str, str, str]:
    """Type, digest and reference of a payload."""
    try:
        content: Any = json.loads(payload)
        critical = content["critical"]
        found = (
            critical["type"],
            critical["image"]["docker-manifest-digest"],
            critical["identity"]["docker-reference"],
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("what it signs is not in the simple signing format") from None
    if not all(isinstance(one, str) for one in found):
        raise ValueError("what it signs is not in the simple signing format")
    return found


def _same_place(rule: Rule, asked: Reference, identity: str) -> None:
    """The signature is for this repository; where it has a tag, and one was asked for, for this tag."""
    try:
        named = parse(identity)
    except HostctlError:
        raise ValueError(f"it is for {line(identity)!r}, which is no image") from None
    wanted = asked.name
    if rule.identity:
        wanted = rule.identity + wanted.removeprefix(rule.name)
    if named.name != wanted:
        raise ValueError(f"it is for another repository: {named.name} instead of {wanted}")
    tagged = ":" in identity.rpartition("/")[2].partition("@")[0]
    if tagged and asked.tag and named.tag != asked.tag:
        raise ValueError(f"it is for another tag: {named.tag} instead of {asked.tag}")


def line(text: Any) -> str:
    """Something from outside, short and printable."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    return shown if len(shown) <= _LINE else shown[:_LINE] + "..."
