"""What a signature is worth: cosign's format, three kinds of keys, and all that is wrong with others."""

from __future__ import annotations

import base64

import pytest
from hostctl_host.contract.trust import SIGNED, Rule

from hostctl.trust import problem
from tests.trust.signing import Key, bundle, payload, sent, statement

NAME = "registry.example.org/shop/web"
DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64

# Published with the tests of sigstore-rs: one that cosign made, and one of SUSE's registry (its Build Service signs).
PUBLISHED = {
    "cosign": (
        """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cu
OSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==
-----END PUBLIC KEY-----""",
        "registry-testing.svc.lan/busybox",
        "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b",
        "null",
        "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwnlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=",
    ),
    "suse": (
        """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvM/dHoi6nSy7hbKHLYUr
Xy6Bv35JbdoIzny5vSFiRXApr0KS56U8PugdGmh+vd7H8YNlx2YOJxzv02Blsrcm
WDZcXjE3Xpsi/IHFfRZLOdwwR+u8MNFxwRUVzxyIzKGtbREVVfXPfb2Xc6FL5/tE
vQtUKuR6XdzSaav2RnV5IybCB09s0Np0AUbdi5EfSe4INuqgY+VFYLjvM5onbAQL
N3bFLS4Quk66Dhv93Zi6NwopwL1F07UPC5uadkyePStP3PA0OAOemj9vZADOWx5a
dsGCKISs8iphNC5mDVoLy8Ry49Ms3eQXRjVQOMco3YNf8AhsIdxDNBVN8VTDKVkE
DwIDAQAB
-----END PUBLIC KEY-----""",
        "registry.suse.com/suse/sle-micro/5.0/toolbox",
        "sha256:356631f7603526a0af827741f5fe005acf19b7ef7705a34241a91c2d47a6db5e",
        '{"creator":"OBS"}',
        "umasnfYJyLbYPjiq1wIy086Ns+CrgiMoQUSGqPqlUmtWsY0hbngJ73hPfJFrppviPKdBeuUiiwgKagBKIXLEXjwxQp4eE3szwqkK"
        "oAnR/lByb7ahLgVQ4MB6xDQaHD53MYtj7aOvd4O7FqJltVVjEn7nM/Du2tL5y3jf6lD7VfHZE8uRocRlyppt8SfTc5L12mVlZ0Yl"
        "fKYkd334A4y/reCy3Yws0j356Wj7GLScMU5uR11Y2y41rSyYm5uXhTerwNFXsRcPMAmenMarCdCmt4Lf4wpcJBCU172xiK+rIhbM"
        "gkLjjA772+auSYf1E8CySVah5CD0Td5YC3y8vIIYaA==",
    ),
}


def rule(*keys: Key, name: str = "registry.example.org", identity: str = "") -> Rule:
    return Rule(name, SIGNED, keys=tuple(key.public for key in keys), identity=identity)


def said(key: Key, data: bytes, asked: str = f"{NAME}:1", digest: str = DIGEST) -> str:
    return problem(rule(key), asked, digest, [sent(data, key.sign(data))])


@pytest.mark.parametrize("source", PUBLISHED)
def test_signatures_from_the_world(source: str) -> None:
    key, name, digest, optional, signature = PUBLISHED[source]
    data = payload(name, digest).replace(b'"optional":null', f'"optional":{optional}'.encode())
    held = Rule(name.partition("/")[0], SIGNED, keys=(key,))
    assert problem(held, f"{name}:1", digest, [sent(data, signature)]) == ""
    assert (
        problem(held, f"{name}:1", digest, [sent(data, signature[:40] + "\n" + signature[40:])])
        == ""
    )
    changed = sent(
        data.replace(b"sha256:3", b"sha256:4").replace(b"sha256:f", b"sha256:e"), signature
    )
    assert "was not made with the key" in problem(held, name, digest, [changed])


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
def test_kinds_of_keys(kind: str) -> None:
    key = Key(kind)
    assert said(key, payload(NAME, DIGEST)) == ""
    data = payload(NAME, DIGEST)
    other = [sent(data, Key(kind).sign(data))]
    assert problem(rule(key), NAME, DIGEST, other) == (
        "its signature does not count: it was not made with the key of the rule, or the payload was changed"
        " afterwards"
    )


def test_one_good_signature_by_one_of_the_keys_is_enough() -> None:
    old, new, stranger = Key(), Key("ed25519"), Key()
    data = payload(NAME, DIGEST)
    found = [sent(data, stranger.sign(data)), {"problem": "too large"}, sent(data, new.sign(data))]
    assert problem(rule(old, new), NAME, DIGEST, found) == ""
    assert "any key of the rule" in problem(rule(old, Key("rsa")), NAME, DIGEST, found)


def test_unsigned() -> None:
    assert problem(rule(Key()), NAME, DIGEST, []) == f"{DIGEST} is not signed"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (payload(NAME, OTHER), f"it is for another image: {OTHER}"),
        (
            payload("registry.example.org/shop/db", DIGEST),
            f"it is for another repository: registry.example.org/shop/db instead of {NAME}",
        ),
        (payload(f"{NAME}:2", DIGEST), "it is for another tag: 2 instead of 1"),
        (payload("no image!", DIGEST), "which is no image"),
        (payload(NAME, DIGEST, type="a letter"), "it signs a 'a letter', no image"),
        (payload(NAME, DIGEST, identity={}), "not in the simple signing format"),
        (payload(NAME, DIGEST, image={"docker-manifest-digest": 7}), "not in the simple signing"),
        (b"{", "not in the simple signing format"),
        (b"[" * 50_000, "not in the simple signing format"),
        (b"\xff\xfe", "not in the simple signing format"),
        (b"", "not in the simple signing format"),
    ],
)
def test_what_a_good_signature_may_be_of(data: bytes, why: str) -> None:
    assert why in said(Key(), data)


def test_what_comes_from_outside_is_shown_short_and_printable() -> None:
    text = said(Key(), payload(NAME, "\x1b[31m" + "x" * 5000))
    assert "\x1b" not in text
    assert len(text) < 400


@pytest.mark.parametrize("found", [{}, {"payload": "?", "signature": "?"}, {"payload": "e30="}])
def test_what_is_not_even_a_signature(found: dict[str, str]) -> None:
    assert "it is not base64" in problem(rule(Key()), NAME, DIGEST, [found])


def test_many_reasons_are_counted() -> None:
    key = Key()
    found = [{"problem": f"reason {number}"} for number in range(9)]
    text = problem(rule(key), NAME, DIGEST, found)
    assert text.startswith(
        "none of its 9 signatures counts: reason 0; reason 1; reason 2; and 6 more"
    )


def test_docker_hub_by_any_of_its_names() -> None:
    key = Key()
    data = payload("index.docker.io/library/nginx", DIGEST)
    assert said(key, data, "docker.io/library/nginx:1") == ""


def test_an_image_copied_from_elsewhere_keeps_its_identity() -> None:
    key = Key()
    data = payload("index.docker.io/library/nginx", DIGEST)
    held = rule(key, name="mirror.example.org/hub", identity="docker.io/library")
    found = [sent(data, key.sign(data))]
    assert problem(held, "mirror.example.org/hub/nginx:1", DIGEST, found) == ""
    assert "another repository" in problem(held, "mirror.example.org/hub/db:1", DIGEST, found)


def test_a_digest_asked_for_takes_a_signature_of_any_tag() -> None:
    data = payload(f"{NAME}:2", DIGEST)
    assert said(Key(), data, f"{NAME}@{DIGEST}") == ""


def test_a_signature_of_other_bytes_with_the_same_meaning() -> None:
    """Bytes are signed, not what they mean."""
    key = Key()
    data = payload(NAME, DIGEST)
    spaced = data.replace(b":{", b": {")
    found = {"payload": base64.b64encode(spaced).decode(), "signature": key.sign(data)}
    assert "payload was changed" in problem(rule(key), NAME, DIGEST, [found])


def judged(data: bytes, key: Key) -> str:
    found = {"bundle": base64.b64encode(data).decode()}
    return problem(rule(key), f"{NAME}:1", DIGEST, [found])


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
def test_bundles(kind: str) -> None:
    key = Key(kind)
    good = bundle(statement(DIGEST), key)
    assert judged(good, key) == ""
    assert "was not made with the key" in judged(bundle(statement(DIGEST), Key(kind)), key)
    other = base64.b64encode(statement(OTHER))
    swapped = good.replace(base64.b64encode(statement(DIGEST)), other)
    assert "the payload was changed" in judged(swapped, key)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (statement(OTHER), f"it is for another image: {OTHER}"),
        (
            statement(DIGEST, "https://slsa.dev/provenance/v1"),
            "it is an attestation (https://slsa.dev/provenance/v1), no signature",
        ),
        (statement(DIGEST, kind="https://example.org"), "no signature"),
        (b"{}", "what it signs is no statement"),
        (b"[]", "what it signs is no statement"),
        (b'{"predicateType": 1, "subject": [{"digest": 7}], "_type": ""}', "is no statement"),
    ],
)
def test_what_a_bundle_may_be_of(data: bytes, why: str) -> None:
    key = Key()
    assert why in judged(bundle(data, key), key)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"dsseEnvelope": None}, "it is no bundle with a signed statement"),
        (
            {"dsseEnvelope": {"payloadType": "x", "payload": "?", "signatures": []}},
            "it is no bundle",
        ),
        ({"dsseEnvelope": {"payloadType": "x", "payload": "", "signatures": []}}, "it signs 'x'"),
        ({"verificationMaterial": {"certificate": {}}}, "made with a certificate (keyless)"),
        ({"messageSignature": {}, "dsseEnvelope": {}}, "it is no bundle"),
    ],
)
def test_what_is_no_bundle(more: dict[str, object], why: str) -> None:
    key = Key()
    assert why in judged(bundle(statement(DIGEST), key, **more), key)


def test_an_image_needs_a_signature_that_is_one() -> None:
    key = Key()
    assert "it is no bundle" in judged(b"[" * 50_000, key)
    assert "it is no bundle" in judged(b"\xff", key)


def test_larger_curves() -> None:
    """With SHA-256, as cosign does it, or with the hash of their size, as others do."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = Key()
    key.private = ec.generate_private_key(ec.SECP384R1())
    data = payload(NAME, DIGEST)
    for made in (hashes.SHA256(), hashes.SHA384()):
        signature = base64.b64encode(key.private.sign(data, ec.ECDSA(made))).decode()
        assert problem(rule(key), f"{NAME}:1", DIGEST, [sent(data, signature)]) == ""
    signature = base64.b64encode(key.private.sign(b"else", ec.ECDSA(hashes.SHA384()))).decode()
    assert "was not made with" in problem(rule(key), f"{NAME}:1", DIGEST, [sent(data, signature)])
