"""A registry that misbehaves: ends right, or says why; nothing half-done is left."""

from __future__ import annotations

import base64
import http.server
import json
import os
import socket
import subprocess
import threading
from typing import Any

import pytest
from hostctl_host import image
from hostctl_host.agent.host import Host
from hostctl_host.contract.errors import CannotObserve, HostctlError
from hostctl_host.store.store import Store

from tests.store.layers import TestImage, member, sha256, tar
from tests.store.registries import Proxy, RunningRegistry, free_port, reply, start_registry
from tests.store.test_pull import assert_clean, layer_names, make_image, run

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts are counted, not waited."""
    from hostctl_host.store import endpoint, transport

    class Clock:
        def __init__(self) -> None:
            import time

            self.monotonic = time.monotonic
            self.slept: list[float] = []

        def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)

    clock = Clock()
    monkeypatch.setattr(endpoint, "time", clock)
    monkeypatch.setattr(transport, "time", clock)


# Of "secret", cost 4.
BCRYPT = "$2b$04$l3G/77AoREakxnFMU.LEBurFqmvSBIxjfb3seo.YpkFpVN3ldi1g."


def is_layer(handler: Any, made: TestImage) -> bool:
    return handler.path.endswith(sha256(made.packed[1]))


def broken_off(handler: Any, proxy: Proxy, keep: int) -> bool:
    """Answer with all headers and only a part of the body, then close."""
    status, headers, body = proxy.fetch("GET", handler.path, dict(handler.headers))
    handler.send_response_only(status)
    for key, value in headers:
        handler.send_header(key, value)
    handler.end_headers()
    handler.wfile.write(body[:keep])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return True


def pull_fails(spec: image.Spec, host: Host, ref: str, match: str) -> HostctlError:
    observed = image.observe(spec, host)
    with pytest.raises(HostctlError, match=match) as caught:
        image.apply(spec, observed, image.diff(spec, observed), host)
    assert caught.value.ref == ref
    store = Store(host.paths.data)
    assert store.resolve(spec.name) is None
    assert_clean(store)
    return caught.value


def test_a_broken_blob_is_resumed(
    registry: RunningRegistry, proxy: Proxy, host: Host, store: Store
) -> None:
    made = make_image("resume")
    registry.push("resume", "1", made)
    proxy.fault = lambda h, n: is_layer(h, made) and n <= 3 and broken_off(h, proxy, 50_000)
    run(image.Spec(name=f"{proxy.host}/resume:1"), host)
    assert store.resolve(f"{proxy.host}/resume:1") == made.image_id
    ranges = [h.get("Range") for _, path, h in proxy.seen if path.endswith(sha256(made.packed[1]))]
    assert ranges == [None, "bytes=50000-", "bytes=100000-", "bytes=150000-"]


def test_a_server_without_ranges_is_resumed_too(
    registry: RunningRegistry, proxy: Proxy, host: Host, store: Store
) -> None:
    made = make_image("norange")
    registry.push("norange", "1", made)

    def fault(handler: Any, count: int) -> bool:
        if not is_layer(handler, made):
            return False
        if count == 1:
            return broken_off(handler, proxy, 50_000)
        return reply(handler, 200, made.packed[1])

    proxy.fault = fault
    run(image.Spec(name=f"{proxy.host}/norange:1"), host)
    assert store.resolve(f"{proxy.host}/norange:1") == made.image_id


def test_a_blob_that_never_comes_whole(registry: RunningRegistry, proxy: Proxy, host: Host) -> None:
    made = make_image("never")
    registry.push("never", "1", made)
    proxy.fault = lambda h, n: is_layer(h, made) and broken_off(h, proxy, 0)
    error = pull_fails(
        image.Spec(name=f"{proxy.host}/never:1"), host, "registry-unreachable", "broke off sha256:"
    )
    assert "at 0 of " in error.message
    # The layer that came is kept for the next attempt.
    assert layer_names(Store(host.paths.data)) == [sha256(made.layers[0])[7:]]


@pytest.mark.parametrize("change", ["flip", "other", "short", "long"])
def test_wrong_content_is_a_digest_mismatch(
    registry: RunningRegistry, proxy: Proxy, host: Host, change: str
) -> None:
    made = make_image(change)
    registry.push(change, "1", made)
    right = made.packed[1]
    wrong = {
        "flip": right[:-1000] + bytes([right[-1000] ^ 1]) + right[-999:],
        "other": os.urandom(len(right)),
        "short": right[:-10],
        "long": right + b"x",
    }[change]
    proxy.fault = lambda h, n: is_layer(h, made) and reply(h, 200, wrong)
    spec = image.Spec(name=f"{proxy.host}/{change}:1")
    if change == "short":
        pull_fails(spec, host, "registry-unreachable", "broke off")
        return
    error = pull_fails(spec, host, "digest-mismatch", "expected")
    assert "nothing was kept" in error.hint
    if change in ("flip", "other"):
        assert f"expected {sha256(right)}, got {sha256(wrong)}" in error.message


def test_wrong_diff_id(registry: RunningRegistry, host: Host) -> None:
    lying = make_image("lying")
    lying.layers[1] = b"something else"
    lying.__post_init__()
    name = registry.push("lying", "1", lying)
    pull_fails(image.Spec(name=name), host, "digest-mismatch", r"\(unpacked\): expected")


def test_wrong_manifest_digest(registry: RunningRegistry, proxy: Proxy, host: Host) -> None:
    made, other = make_image("m"), make_image("n")
    proxy.fault = lambda h, n: "manifests" in h.path and reply(h, 200, other.manifest)
    with pytest.raises(CannotObserve, match="expected sha256:") as caught:
        image.observe(image.Spec(name=f"{proxy.host}/m@{made.digest}"), host)
    assert caught.value.ref == "digest-mismatch"


def test_server_errors_are_tried_again(
    registry: RunningRegistry, proxy: Proxy, host: Host, store: Store
) -> None:
    made = make_image("again")
    registry.push("again", "1", made)
    proxy.fault = lambda h, n: n <= 2 and h.path != "/v2/" and reply(h, 503, b"busy")
    run(image.Spec(name=f"{proxy.host}/again:1"), host)
    assert store.resolve(f"{proxy.host}/again:1") == made.image_id


def test_server_errors_that_stay(proxy: Proxy, host: Host) -> None:
    proxy.fault = lambda h, n: reply(h, 500, b"")
    with pytest.raises(CannotObserve, match="answers 500 for the manifest") as caught:
        image.observe(image.Spec(name=f"{proxy.host}/x:1"), host)
    assert caught.value.ref == "registry-answer"
    assert sum(1 for _, path, _ in proxy.seen if "manifests" in path) == 5


def test_rate_limit(proxy: Proxy, host: Host) -> None:
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "pull limit reached"}]})
    proxy.fault = lambda h, n: (
        h.path != "/v2/" and reply(h, 429, body.encode(), {"Retry-After": "7"})
    )
    with pytest.raises(CannotObserve, match="pull limit reached") as caught:
        image.observe(image.Spec(name=f"{proxy.host}/x:1"), host)
    assert caught.value.ref == "registry-rate-limit"
    from hostctl_host.store import transport

    assert transport.time.slept == [7.0] * 4


def test_nobody_there(host: Host) -> None:
    with pytest.raises(CannotObserve, match="Connection refused") as caught:
        image.observe(image.Spec(name=f"127.0.0.1:{free_port()}/x:1"), host)
    assert caught.value.ref == "registry-unreachable"


def test_hangs_after_accept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from hostctl_host.store import transport

    monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 0.05)
    monkeypatch.setattr(transport, "SILENCE_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"127.0.0.1:{silent.getsockname()[1]}/x:1"
        with pytest.raises(CannotObserve, match="does not answer in time") as caught:
            image.observe(image.Spec(name=name), host)
    assert caught.value.ref == "registry-unreachable"


@pytest.mark.parametrize(
    ("manifest", "match"),
    [
        (b"not json", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "Docker's schema 1"),
        (b'{"schemaVersion": 2, "config": {}, "layers": []}', "which is no sha256 digest"),
        (b'{"schemaVersion": 2, "mediaType": "application/x", "a": 1}', "which is no image"),
        (
            b'{"schemaVersion": 2, "config": {}, "layers": [{"urls": ["http://x"]}]}',
            "foreign layers",
        ),
    ],
)
def test_manifests_that_are_none(proxy: Proxy, host: Host, manifest: bytes, match: str) -> None:
    proxy.fault = lambda h, n: "manifests" in h.path and reply(h, 200, manifest)
    with pytest.raises(CannotObserve, match=match) as caught:
        image.observe(image.Spec(name=f"{proxy.host}/x:1"), host)
    assert caught.value.ref == "image-manifest"


def test_malicious_layer_is_refused(registry: RunningRegistry, host: Host, tmp_path) -> None:
    made = TestImage([tar(member("fine", b"f")), tar(member("../../../../escaped", b"x"))])
    name = registry.push("evil", "1", made)
    pull_fails(image.Spec(name=name), host, "layer-unsafe", "the path leaves the layer")
    assert not any("escaped" in files for _, _, files in os.walk(tmp_path))


class TokenServer:
    """Gives tokens to who knows the password; hands blobs on to another host."""

    def __init__(self) -> None:
        server = self
        self.asked: list[tuple[str, str]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers.get("Authorization", "")))
                wanted = "Basic " + base64.b64encode(b"user:secret").decode()
                if self.headers.get("Authorization") not in (None, wanted):
                    reply(self, 401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "no"}]}')
                else:
                    kind = "full" if self.headers.get("Authorization") else "anonymous"
                    reply(self, 200, json.dumps({"token": kind}).encode())

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def tokens():
    server = TokenServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


def guarded(proxy: Proxy, tokens: TokenServer, wanted: str) -> None:
    challenge = f'Bearer realm="http://{tokens.host}/token?a=b",service="reg, istry",scope="repository:x:pull"'

    def fault(handler: Any, count: int) -> bool:
        if handler.headers.get("Authorization") == f"Bearer {wanted}":
            return False
        return reply(handler, 401, b"{}", {"WWW-Authenticate": challenge})

    proxy.fault = fault


def test_anonymous_token(registry, proxy, tokens, host, store) -> None:
    made = make_image("anon")
    registry.push("anon", "1", made)
    guarded(proxy, tokens, "anonymous")
    run(image.Spec(name=f"{proxy.host}/anon:1"), host)
    assert store.resolve(f"{proxy.host}/anon:1") == made.image_id
    assert tokens.asked[0] == ("/token?a=b&scope=repository%3Ax%3Apull&service=reg%2C+istry", "")
    # One token for the look and one for the pull, not one for each blob.
    assert len(tokens.asked) == 2


def test_token_for_a_user(registry, proxy, tokens, host, store) -> None:
    made = make_image("login")
    registry.push("login", "1", made)
    guarded(proxy, tokens, "full")
    spec = image.Spec(name=f"{proxy.host}/login:1")
    with pytest.raises(CannotObserve) as caught:
        image.observe(spec, host)
    assert caught.value.ref == "registry-unauthorized"
    host.credentials = {proxy.host: {"username": "user", "password": "wrong-secret"}}
    with pytest.raises(CannotObserve, match="gives no token") as caught:
        image.observe(spec, host)
    assert "wrong-secret" not in f"{caught.value.message}{caught.value.hint}"
    host.credentials = {proxy.host: {"username": "user", "password": "secret"}}
    run(spec, host)
    assert store.resolve(spec.name) == made.image_id
    for folder, _, files in os.walk(host.paths.data):
        for file in files:
            with open(os.path.join(folder, file), "rb") as stream:
                assert b"secret" not in stream.read()


def test_redirects_drop_the_authorization(registry, proxy, host, store) -> None:
    made = make_image("redirect")
    registry.push("redirect", "1", made)
    elsewhere = Proxy(registry.host)
    host.credentials = {proxy.host: {"username": "user", "password": "secret"}}

    def fault(handler: Any, count: int) -> bool:
        if "Authorization" not in handler.headers:
            return reply(handler, 401, b"{}", {"WWW-Authenticate": 'Basic realm="x"'})
        if "/blobs/" in handler.path:
            return reply(handler, 307, b"", {"Location": f"http://{elsewhere.host}{handler.path}"})
        return False

    proxy.fault = fault
    try:
        run(image.Spec(name=f"{proxy.host}/redirect:1"), host)
    finally:
        elsewhere.stop()
    assert store.resolve(f"{proxy.host}/redirect:1") == made.image_id
    assert len(elsewhere.seen) == 3
    assert not any("Authorization" in headers for _, _, headers in elsewhere.seen)


def test_redirect_loop(proxy: Proxy, host: Host) -> None:
    proxy.fault = lambda h, n: h.path != "/v2/" and reply(h, 302, b"", {"Location": h.path})
    with pytest.raises(CannotObserve, match="redirects too often"):
        image.observe(image.Spec(name=f"{proxy.host}/x:1"), host)


def test_htpasswd_over_tls(tmp_path, host: Host, store: Store) -> None:
    """A private registry: unknown CA refused, insecure accepted, basic authentication."""
    folder = tmp_path / "private"
    folder.mkdir()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", "key.pem", "-out", "cert.pem"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (folder / "htpasswd").write_text(f"user:{BCRYPT}\n")
    basic = "Basic " + base64.b64encode(b"user:secret").decode()
    private = start_registry(
        str(folder), f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}", True, basic
    )
    try:
        made = make_image("private")
        name = private.push("private", "1", made)
        with pytest.raises(CannotObserve, match="certificate is not trusted") as caught:
            image.observe(image.Spec(name=name), host)
        assert caught.value.ref == "registry-unreachable"
        assert "insecure: true" in caught.value.hint
        spec = image.Spec(name=name, insecure=True)
        with pytest.raises(CannotObserve, match="does not allow it") as caught:
            image.observe(spec, host)
        assert caught.value.ref == "registry-unauthorized"
        host.credentials = {private.host: {"username": "user", "password": "secret"}}
        run(spec, host)
        assert store.resolve(name) == made.image_id
    finally:
        private.stop()
