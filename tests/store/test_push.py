"""Images pushed to a real registry, through a proxy that breaks things: ends right, or says why."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import Any

import pytest
from hostctl_host import image
from hostctl_host.agent.host import Host
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.reference import parse
from hostctl_host.store import endpoint, transport, upload
from hostctl_host.store.push import Push, Pushed
from hostctl_host.store.store import Store

from tests.store.layers import TestImage, member, sha256, tar
from tests.store.registries import Proxy, RunningRegistry, reply
from tests.store.test_pull import make_image, run

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts are counted, not waited."""
    import time

    waits: list[float] = []

    class Clock:
        monotonic = staticmethod(time.monotonic)
        sleep = staticmethod(waits.append)

    for module in (endpoint, transport, upload):
        monkeypatch.setattr(module, "time", Clock)
    return waits


@pytest.fixture
def large(
    registry: RunningRegistry, host: Host, monkeypatch: pytest.MonkeyPatch
) -> tuple[TestImage, str]:
    """An image in the store whose second layer is too large for one request."""
    monkeypatch.setattr(upload, "MONOLITHIC", 200_000)
    monkeypatch.setattr(upload, "_LEAST_PIECE", 100_000)
    made = make_image("large")
    name = registry.push("origin/large", "1", made)
    run(image.Spec(name=name), host)
    return made, name


def push(host: Host, name: str, destination: str, **more: Any) -> Pushed:
    store = Store(host.paths.data)
    found = store.image(name)
    assert found is not None
    settings = {"insecure": False, "credentials": host.credentials, "registries": host.registries}
    given = {**settings, "progress": lambda line: None, **more}
    return Push(store, found, parse(destination), **given).run()


def raw(destination: str) -> str:
    """The digest of the manifest that skopeo reads there."""
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{destination}"],
        capture_output=True,
        check=True,
    )
    return sha256(done.stdout)


def uploads(proxy: Proxy) -> list[str]:
    """Methods of the requests that carry, or ask about, an upload."""
    return [method for method, path, _ in proxy.seen if "/blobs/uploads/" in path]


def cut(handler: Any, proxy: Proxy, keep: int) -> bool:
    """Hand the start of the body on, and close both connections."""
    length = int(handler.headers["Content-Length"])
    body = handler.rfile.read(min(keep, length))
    name, port = proxy.upstream.split(":")
    with socket.create_connection((name, int(port))) as upstream:
        head = "".join(f"{k}: {v}\r\n" for k, v in handler.headers.items() if k != "Host")
        line = f"{handler.command} {handler.path} HTTP/1.1\r\nHost: {proxy.upstream}\r\n{head}\r\n"
        upstream.sendall(line.encode() + body)
        upstream.shutdown(socket.SHUT_WR)
        upstream.settimeout(20)
        while upstream.recv(4096):
            pass
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return True


@pytest.mark.parametrize("docker", [False, True])
def test_what_is_pushed_is_what_others_read(
    registry: RunningRegistry, proxy: Proxy, host: Host, tmp_path, docker: bool
) -> None:
    made = make_image("out", docker=docker)
    run(image.Spec(name=registry.push("from/out", "1", made)), host)
    target = f"{proxy.host}/to/out{docker}:2".lower()
    sizes = sum(map(len, made.blobs().values()))
    done = push(host, f"{registry.host}/from/out:1", target)
    assert done == Pushed(made.digest, sent=sizes, mounted=0, present=0)
    assert raw(target) == made.digest
    subprocess.run(
        [
            "skopeo",
            "copy",
            "-q",
            "--src-tls-verify=false",
            f"docker://{target}",
            f"dir:{tmp_path}/out",
        ],
        check=True,
        capture_output=True,
    )
    for blob in made.blobs():
        assert (tmp_path / "out" / blob[7:]).exists()
    # Another push sends nothing.
    proxy.seen.clear()
    assert push(host, f"{registry.host}/from/out:1", target).present == sizes
    assert uploads(proxy) == []


def test_what_the_registry_has_elsewhere_is_mounted(
    registry: RunningRegistry, host: Host, large: tuple[TestImage, str]
) -> None:
    made, name = large
    done = push(host, name, f"{registry.host}/mounted/it:1")
    assert done.mounted == sum(map(len, made.packed))
    assert done.sent == len(made.config_data)
    assert raw(f"{registry.host}/mounted/it:1") == made.digest


def test_a_large_blob_goes_as_docker_sends_it(
    proxy: Proxy, host: Host, large: tuple[TestImage, str]
) -> None:
    made, name = large
    push(host, name, f"{proxy.host}/streamed:1")
    patches = [headers for method, _, headers in proxy.seen if method == "PATCH"]
    [patch] = patches
    assert patch["Content-Length"] == str(len(made.packed[1]))
    assert "Content-Range" not in patch
    assert raw(f"{proxy.host}/streamed:1") == made.digest


def test_an_upload_is_continued(
    proxy: Proxy, host: Host, large: tuple[TestImage, str], slept: list[float]
) -> None:
    """The connection breaks before a piece; what came before it is not sent again."""
    made, name = large
    broken: list[str] = []

    def fault(handler: Any, count: int) -> bool:
        length = int(handler.headers.get("Content-Length") or 0)
        if length > 100_000:
            handler.rfile.read(length)
            return reply(handler, 413, b"")
        if handler.command == "PATCH" and handler.headers["Content-Range"] not in (
            "0-99999",
            *broken,
        ):
            broken.append(handler.headers["Content-Range"])
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return True
        return False

    proxy.fault = fault
    push(host, name, f"{proxy.host}/continued:1")
    assert raw(f"{proxy.host}/continued:1") == made.digest
    ranges = [h["Content-Range"] for m, _, h in proxy.seen if m == "PATCH" if "Content-Range" in h]
    assert ranges[:5] == ["0-99999", "100000-199999", "100000-199999", *[broken[1]] * 2]
    assert slept


def test_an_upload_that_the_registry_forgets_begins_anew(
    proxy: Proxy, host: Host, large: tuple[TestImage, str]
) -> None:
    """docker-registry does not say how much came of a body that broke off in its middle."""
    made, name = large
    patched: list[str] = []

    def fault(handler: Any, count: int) -> bool:
        if handler.command == "PATCH":
            patched.append(handler.path)
        return handler.command == "PATCH" and len(patched) <= 2 and cut(handler, proxy, 120_000)

    proxy.fault = fault
    push(host, name, f"{proxy.host}/anew:1")
    assert raw(f"{proxy.host}/anew:1") == made.digest
    assert len(patched) == 3


def test_a_proxy_that_takes_small_bodies_only(
    proxy: Proxy, host: Host, large: tuple[TestImage, str]
) -> None:
    made, name = large

    def fault(handler: Any, count: int) -> bool:
        length = int(handler.headers.get("Content-Length") or 0)
        if length <= 120_000:
            return False
        handler.rfile.read(length)
        return reply(handler, 413, b"")

    proxy.fault = fault
    push(host, name, f"{proxy.host}/small:1")
    assert raw(f"{proxy.host}/small:1") == made.digest
    ranges = [h["Content-Range"] for m, _, h in proxy.seen if m == "PATCH" if "Content-Range" in h]
    assert ranges[0] == "0-99999" and ranges[1] == "100000-199999"


def test_bodies_that_are_always_too_large(
    proxy: Proxy, host: Host, large: tuple[TestImage, str]
) -> None:
    def fault(handler: Any, count: int) -> bool:
        if handler.command not in ("PATCH", "PUT"):
            return False
        handler.rfile.read(int(handler.headers["Content-Length"]))
        return reply(handler, 413, b"")

    proxy.fault = fault
    with pytest.raises(HostctlError, match=r"does not take sha256:.* \(413\)") as caught:
        push(host, large[1], f"{proxy.host}/toolarge:1")
    assert caught.value.ref == "push-refused"
    assert "client_max_body_size" in caught.value.hint


@pytest.mark.parametrize("status", [500, 503, 429])
def test_servers_that_are_busy_are_asked_again(
    proxy: Proxy, host: Host, large: tuple[TestImage, str], slept: list[float], status: int
) -> None:
    made, name = large
    seen: set[str] = set()

    def fault(handler: Any, count: int) -> bool:
        kind = f"{handler.command} {'/blobs/' in handler.path}"
        if handler.path == "/v2/" or handler.command == "GET" or kind in seen:
            return False
        seen.add(kind)
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        return reply(handler, status, b"", {"Retry-After": "3"})

    proxy.fault = fault
    push(host, name, f"{proxy.host}/busy{status}:1")
    assert raw(f"{proxy.host}/busy{status}:1") == made.digest
    assert {"POST True", "PATCH True", "PUT True", "PUT False"} <= seen
    assert 3.0 in slept


def test_a_registry_that_wants_to_be_left_alone_for_long(
    proxy: Proxy, host: Host, large: tuple[TestImage, str], slept: list[float]
) -> None:
    proxy.fault = lambda h, n: (
        h.command == "POST"
        and reply(h, 429, b"", {"Retry-After": "900", "RateLimit-Limit": "100;w=21600"})
    )
    with pytest.raises(HostctlError, match=r"cannot push .* \(429; it allows 100") as caught:
        push(host, large[1], f"{proxy.host}/later:1")
    assert caught.value.ref == "registry-rate-limit"
    assert "wait 900 s" in caught.value.hint
    assert slept == []


def test_uploads_that_never_arrive(proxy: Proxy, host: Host, large: tuple[TestImage, str]) -> None:
    proxy.fault = lambda h, n: h.command == "PATCH" and cut(h, proxy, 0)
    with pytest.raises(HostctlError, match="cannot reach") as caught:
        push(host, large[1], f"{proxy.host}/neverarrives:1")
    assert caught.value.ref == "registry-unreachable"


def test_a_registry_that_hangs(
    proxy: Proxy, host: Host, large: tuple[TestImage, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    monkeypatch.setattr(transport, "SILENCE_TIMEOUT", 0.2)
    done = threading.Event()
    proxy.fault = lambda h, n: h.command == "POST" and done.wait(20)
    try:
        with pytest.raises(HostctlError, match="does not answer in time") as caught:
            push(host, large[1], f"{proxy.host}/hangs:1")
    finally:
        done.set()
    assert caught.value.ref == "registry-unreachable"


def test_a_damaged_blob_of_our_own_is_refused(
    registry: RunningRegistry, host: Host, store: Store
) -> None:
    made = TestImage([tar(member("a", os.urandom(3000)))])
    name = registry.push("damaged", "1", made)
    run(image.Spec(name=name), host)
    path = store.blob_path(sha256(made.packed[0]))
    with open(path, "r+b") as file:
        file.seek(50)
        file.write(b"xxxx")
    fresh = f"localhost:{registry.host.partition(':')[2]}/elsewhere/damaged:1"
    with pytest.raises(HostctlError, match="DIGEST_INVALID") as caught:
        push(host, name, fresh)
    assert caught.value.ref == "push-refused"
    assert "damaged" in caught.value.hint


def test_a_missing_blob_is_said_before_anything_is_sent(
    registry: RunningRegistry, proxy: Proxy, host: Host, store: Store
) -> None:
    made = make_image("gone")
    name = registry.push("gone", "1", made)
    run(image.Spec(name=name), host)
    os.unlink(store.blob_path(sha256(made.packed[0])))
    with pytest.raises(HostctlError, match="is missing from the store") as caught:
        push(host, name, f"{proxy.host}/gone:2")
    assert caught.value.ref == "image-missing"
    assert proxy.seen == []
