"""`hostctl_trust` as people write it: which rule is for which image, and what is wrong with it, where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.reference import parse
from hostctl_host.contract.trust import Trust, received, sent

from hostctl.trust import policy
from hostctl.yaml import load
from tests.trust.signing import Key


def read(text: str, folder: Path) -> tuple[Trust, list[HostctlError]]:
    wrong: list[HostctlError] = []
    found = policy(load(text, str(folder / "inventory.yml")), "web1", wrong.append)
    return found, wrong


RULES = """
default: reject
local: accept
docker.io/library: accept
registry.example.org: reject
registry.example.org/shop: accept
registry.example.org/shop/web/: reject
"*.internal.example": accept
localhost:5000: accept
"""


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "docker.io/library"),
        ("index.docker.io/library/nginx:1", "docker.io/library"),
        ("ada/nginx", "default"),
        ("registry.example.org/db", "registry.example.org"),
        ("registry.example.org/shop", "registry.example.org/shop"),
        ("registry.example.org/shop/db:1", "registry.example.org/shop"),
        ("registry.example.org/shopping/db", "registry.example.org"),
        ("registry.example.org/shop/web", "registry.example.org/shop/web"),
        ("registry.example.org/shop/web/nested:1", "registry.example.org/shop/web"),
        ("a.internal.example:5000/x", "*.internal.example"),
        ("a.b.internal.example/x", "*.internal.example"),
        ("internal.example/x", "default"),
        ("localhost:5000/x", "localhost:5000"),
        ("localhost:5001/x", "default"),
    ],
)
def test_the_longest_name_decides(image: str, name: str, tmp_path: Path) -> None:
    trust, wrong = read(RULES, tmp_path)
    assert not wrong
    assert trust.of(parse(image)).name == name
    assert received(sent(trust)).of(parse(image)) == trust.of(parse(image))


def test_what_is_made_on_a_host_has_a_rule_of_its_own(tmp_path: Path) -> None:
    trust, _ = read(RULES, tmp_path)
    assert str(trust.of_local(parse("registry.example.org/db"))).startswith(
        "hostctl_trust, local ("
    )
    assert trust.of_local(parse("registry.example.org/shop/web:1")).policy == "reject"
    assert trust.of_local(None).name == "local"
    trust, _ = read("{docker.io: reject}", tmp_path)
    assert trust.of_local(parse("shop/web")).policy == "accept"
    assert trust.of(parse("quay.io/x")).policy == "accept"


def test_keys_are_pem_or_files_beside_the_inventory(tmp_path: Path) -> None:
    one, two = Key(), Key("ed25519")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "one.pub").write_text(one.public)
    text = f"""
a.example: {{signed: keys/one.pub}}
b.example:
  signed:
    - {tmp_path}/keys/one.pub
    - |
{"".join("      " + line for line in two.public.splitlines(keepends=True))}
"""
    trust, wrong = read(text, tmp_path)
    assert not wrong
    assert trust.rules["a.example"].keys == (one.public.strip(),)
    assert trust.rules["b.example"].keys == (one.public.strip(), two.public.strip())
    assert trust.rules["a.example"].where == f"{tmp_path}/inventory.yml:2:1"
    told = sent(trust)
    assert "BEGIN" not in str(told), "hosts have no use for keys"
    assert told["a.example"]["mark"] != told["b.example"]["mark"]
    (tmp_path / "keys" / "one.pub").write_text(two.public)
    again, _ = read(text, tmp_path)
    assert sent(again)["a.example"]["mark"] != told["a.example"]["mark"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a.example: maybe", "a.example: it is neither accept, nor reject, nor {signed: KEY}"),
        ("a.example: {sign: x}", "it is neither accept"),
        ("a.example: {signed: x, by: y}", "there is no 'by'; there are signed and identity"),
        ("a.example: {signed: []}", "signed names no key"),
        ("a.example: {signed: [7]}", "a key is PEM, or the path of a file here"),
        ("a.example: {signed: none.pub}", "none.pub: no such file or directory"),
        ("a.example: {signed: here.pub}", "here.pub cannot be used: it is no public key in PEM"),
        ("a.example: {signed: private.key}", "private.key cannot be used: it is a private key"),
        ("a.example/x:1: reject", "is no repository: rules have no tag"),
        ("shop: reject", "does not begin with a registry: write docker.io/shop"),
        ('"*.example/x": reject', "has a path behind a wildcard"),
        ("local: {signed: key.pub}", "what is made on a host has no signature"),
        ("default: {signed: key.pub, identity: a.example}", "identity is for the rule of one"),
        ("{index.docker.io: reject, docker.io: accept}", "docker.io is there twice"),
    ],
)
def test_what_cannot_be_meant(text: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "here.pub").write_text(
        "-----BEGIN PUBLIC KEY-----\nrubbish\n-----END PUBLIC KEY-----"
    )
    (tmp_path / "private.key").write_text(Key().secret)
    (tmp_path / "key.pub").write_text(Key().public)
    _, [error] = read(text, tmp_path)
    assert cause in error.message
    assert error.where.startswith(f"{tmp_path}/inventory.yml:1:")
    assert "hostctl_trust" in error.message + error.hint
    assert error.ref == "bad-trust"
    assert "PRIVATE" not in error.message


@pytest.mark.parametrize("value", ["reject", ["reject"], 1])
def test_what_is_no_map(value: Any) -> None:
    wrong: list[HostctlError] = []
    policy(value, "web1", wrong.append)
    assert wrong[0].message == "cannot use hostctl_trust: it is no map of registries"
    assert wrong[0].where == "web1, hostctl_trust"


def test_all_errors_at_once(tmp_path: Path) -> None:
    _, wrong = read("a.example: no\nb.example: no", tmp_path)
    assert [error.where.rpartition(" ")[0].rpartition(":")[0] for error in wrong] == [
        f"{tmp_path}/inventory.yml:1",
        f"{tmp_path}/inventory.yml:2",
    ]
