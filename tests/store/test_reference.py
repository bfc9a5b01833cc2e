"""References by Docker's rules."""

from __future__ import annotations

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.reference import Reference, canonical_name, parse
from hypothesis import given
from hypothesis import strategies as st

D = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:2", "localhost:5000/app:2"),
        ("127.0.0.1:5000/a/b/c:x_Y.z-1", "127.0.0.1:5000/a/b/c:x_Y.z-1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("ghcr.io/o/app@" + D, "ghcr.io/o/app@" + D),
        ("ghcr.io/o/app:1@" + D, "ghcr.io/o/app:1@" + D),
        ("my-host:80/a__b/c--d/e.f", "my-host:80/a__b/c--d/e.f:latest"),
    ],
)
def test_full_form(text: str, full: str) -> None:
    assert str(parse(text)) == full
    assert str(parse(full)) == full
    assert canonical_name(text) == full


@pytest.mark.parametrize(
    ("text", "cause", "hint"),
    [
        ("", "it has no name", "write [host"),
        (":1", "it has no name", "write [host"),
        ("Nginx", "'Nginx' may have lowercase letters", "write nginx"),
        ("user/App:1", "'user/App' may have lowercase letters", "write user/app:1"),
        ("nginx:", "the tag ''", "write [host"),
        ("nginx:a b", "the tag 'a b'", "write [host"),
        ("nginx:" + "t" * 129, "the tag", "write [host"),
        ("nginx@sha256:12", "the digest 'sha256:12' is not", "write [host"),
        ("nginx@md5:" + "0" * 64, "is not sha256:", "write [host"),
        ("host..x/a", "'host..x' is no registry host", "write [host"),
        ("host:99999/a", "'host:99999' is no registry host", "write [host"),
        ("a//b", "'a//b' may have", "write [host"),
        ("../etc", "'..' is no registry host", "write [host"),
        ("a/" + "b" * 260, "at most 255", "write [host"),
        ("https://x.y/a", "'https:' is no registry host", "write [host"),
    ],
)
def test_errors_teach(text: str, cause: str, hint: str) -> None:
    with pytest.raises(HostctlError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"cannot use {text!r} as an image: ")
    assert cause in caught.value.message
    assert caught.value.hint.startswith(hint)
    assert caught.value.ref == "image-reference"


def test_what_the_registry_is_asked_for() -> None:
    assert parse("a:1").target == "1"
    assert parse(f"a:1@{D}").target == D
    assert parse("x.y/a:1") == Reference("x.y", "a", "1")
    assert canonical_name("Not A Reference") == "Not A Reference"


@given(st.text(st.sampled_from("aZ0._-/:@[] \n\u00e9"), max_size=40) | st.text(max_size=40))
def test_fuzz(text: str) -> None:
    try:
        found = parse(text)
    except HostctlError as error:
        assert error.ref == "image-reference"
        return
    assert parse(str(found)) == found
    assert "//" not in found.path
    assert ".." not in found.path.split("/")
    assert str(found).isascii()
    assert str(found).isprintable()
