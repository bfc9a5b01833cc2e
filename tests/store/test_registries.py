"""Registries as they are set up: private CAs, client certificates, token servers, mirrors, long listings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hostctl_host import image
from hostctl_host.agent.host import Host
from hostctl_host.contract.errors import CannotObserve, HostctlError
from hostctl_host.contract.reference import parse
from hostctl_host.contract.registries import RegistrySettings, parse_registries
from hostctl_host.store import endpoint, tls, transport
from hostctl_host.store.registry import Registry
from hostctl_host.store.store import Store

from tests.store.layers import sha256
from tests.store.registries import (
    Proxy,
    RunningRegistry,
    certificate,
    free_port,
    reply,
    start_registry,
)
from tests.store.test_faults import broken_off
from tests.store.test_pull import make_image, run
from tests.store.test_push import push, raw
from tests.store.tokens import IDENTITY, PASSWORD, USER, TokenServer

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    class Clock:
        monotonic = staticmethod(time.monotonic)
        sleep = staticmethod(lambda seconds: None)

    for module in (endpoint, transport):
        monkeypatch.setattr(module, "time", Clock)


class Private:
    """A registry whose certificate is signed by itself, and that wants one of its clients."""

    def __init__(self, folder: Path) -> None:
        self.server = certificate(folder, "server").read_text()
        self.client = certificate(folder, "client").read_text()
        self.key = (folder / "client-key.pem").read_text()
        for name, file in (("server", "cert"), ("server-key", "key")):
            os.rename(folder / f"{name}.pem", folder / f"{file}.pem")
        self.running = start_registry(str(folder), tls=True, clients=str(folder / "client.pem"))
        self.name = f"{self.running.host}/private:1"


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    made = Private(tmp_path_factory.mktemp("private"))
    yield made
    made.running.stop()


def asked(host: Host, name: str) -> str:
    """The error of a look at an image."""
    with pytest.raises(CannotObserve) as caught:
        image.observe(image.Spec(name=name), host)
    return f"{caught.value.message}; {caught.value.hint}"


def test_a_private_ca_and_a_client_certificate(private: Private, host: Host) -> None:
    server = private.running.host
    assert "certificate is not trusted" in asked(host, private.name)
    host.registries = {server: RegistrySettings(ca=private.server)}
    assert "does not accept this host's certificate" in asked(host, private.name)
    told = {"ca": private.server, "cert": private.client, "key": private.key}
    host.registries = parse_registries({server: told})
    # We are in, and there is no such image.
    assert "has no such image" in asked(host, private.name)
    wrong = RegistrySettings(ca=private.server, cert=private.client, key="-----BEGIN nothing")
    host.registries = {server: wrong}
    said = asked(host, private.name)
    assert said.startswith(f"cannot use cert and key of {server}: ")
    assert "nothing" not in said
    assert private.key not in repr(told | {"key": parse_registries({server: told})[server]})


def test_folders_of_docker(
    private: Private, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "CERTS_D", (str(tmp_path / "certs.d"),))
    folder = tmp_path / "certs.d" / private.running.host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text(private.server)
    (folder / "client.cert").write_text(private.client)
    assert "its key client.key is missing" in asked(host, private.name)
    (folder / "client.key").write_text(private.key)
    assert "has no such image" in asked(host, private.name)


def test_http_is_for_loopback_and_where_it_is_named(host: Host) -> None:
    one = endpoint.Endpoint(parse("192.0.2.1:5000/x"), credentials={}, registries={})
    assert one.url("").scheme == "https"
    assert not one.transport.plain and one.transport.verify
    settings = {"192.0.2.1:5000": RegistrySettings(insecure=True)}
    two = endpoint.Endpoint(parse("192.0.2.1:5000/x"), credentials={}, registries=settings)
    assert two.transport.plain and not two.transport.verify


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    server = TokenServer(tmp_path_factory.mktemp("tokens"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def guarded(
    tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningRegistry]:
    running = start_registry(str(tmp_path_factory.mktemp("guarded")), tokens.config())
    yield running
    running.stop()


@pytest.mark.parametrize(
    "login", [{"username": USER, "password": PASSWORD}, {"identitytoken": IDENTITY}]
)
def test_a_token_server(
    registry: RunningRegistry,
    guarded: RunningRegistry,
    tokens: TokenServer,
    host: Host,
    login: dict[str, str],
) -> None:
    """Push needs a login; so does pull, but for what is public; a mount asks for both repositories."""
    made = make_image("tokens")
    here = registry.push("for/tokens", "1", made)
    run(image.Spec(name=here), host)
    target = f"{guarded.host}/public/{len(login)}:1"
    with pytest.raises(HostctlError, match="does not allow it") as caught:
        push(host, here, target)
    assert caught.value.ref == "registry-unauthorized"
    assert "hostctl login" in caught.value.hint
    host.credentials = {guarded.host: login}
    tokens.asked.clear()
    assert push(host, here, target).sent == sum(map(len, made.blobs().values()))
    assert tokens.asked[0][1] == [f"repository:public/{len(login)}:pull,push"]
    assert raw(target) == made.digest
    pulled = image.Spec(name="pulled", pull=target)
    run(pulled, host)
    tokens.asked.clear()
    private = f"{guarded.host}/private/{len(login)}:1"
    assert push(host, "pulled", private).mounted == sum(map(len, made.packed))
    assert f"repository:public/{len(login)}:pull" in tokens.asked[-1][1]
    host.credentials = {}
    assert "does not allow it" in asked(host, private)
    assert Registry(parse(target)).resolve().digest == made.digest
    host.credentials = {guarded.host: {"problem": "cannot ask docker-credential-x: it is ill"}}
    assert "cannot ask docker-credential-x: it is ill" in asked(host, private)


def test_logins_of_a_namespace_stay_there(guarded: RunningRegistry, host: Host) -> None:
    login = {"username": USER, "password": PASSWORD}
    host.credentials = {f"{guarded.host}/org": login, guarded.host: {**login, "password": "no"}}
    assert "has no such image" in asked(host, f"{guarded.host}/org/x:1")
    assert "gives no token" in asked(host, f"{guarded.host}/organ/x:1")


def mirrored(host: Host, proxy: Proxy, *mirrors: str) -> str:
    host.registries = {proxy.host: RegistrySettings(mirrors=mirrors)}
    return f"{proxy.host}/mirrored:1"


def test_mirrors_are_asked_first(
    registry: RunningRegistry, proxy: Proxy, host: Host, store: Store
) -> None:
    made = make_image("mirror")
    registry.push("cache/mirrored", "1", made)
    name = mirrored(host, proxy, f"http://{registry.host}/cache")
    run(image.Spec(name=name), host)
    assert store.resolve(name) == made.image_id
    assert proxy.seen == []


def test_a_mirror_that_fails_is_passed_over(
    registry: RunningRegistry, proxy: Proxy, host: Host, store: Store
) -> None:
    """One is not there, one has another image, and one breaks off its blobs: the registry goes on."""
    made = make_image("fallback")
    registry.push("mirrored", "1", made)
    other = Proxy(registry.host)
    big = sha256(made.packed[1])
    other.fault = lambda h, n: h.path.endswith(big) and broken_off(h, other, 1000 if n == 1 else 0)
    try:
        name = mirrored(
            host, proxy, f"127.0.0.1:{free_port()}", f"{registry.host}/nowhere", other.host
        )
        run(image.Spec(name=name), host)
    finally:
        other.stop()
    assert store.resolve(name) == made.image_id
    [fetched] = [headers for _, path, headers in proxy.seen if path.endswith(big)]
    assert fetched["Range"].startswith("bytes=")
    assert fetched["Range"] != "bytes=0-"


def test_when_all_fail_each_is_heard(proxy: Proxy, host: Host) -> None:
    mirrored(host, proxy, f"127.0.0.1:{free_port()}")
    name = f"{proxy.host}/nobody/has:1"
    said = asked(host, name)
    assert said.startswith(f"cannot pull {name}: {proxy.host} has no such image")
    assert "(before it: cannot reach http://127.0.0.1:" in said


def test_near_tags_are_named(registry: RunningRegistry, host: Host) -> None:
    made = make_image("tags")
    for tag in ("1.24.0", "1.24.1", "1.25.0", "latest"):
        registry.push("listed", tag, made)
    assert "there is 1.24.1, 1.24.0" in asked(host, f"{registry.host}/listed:1.24")


def test_long_listings(proxy: Proxy) -> None:
    def fault(handler: Any, count: int) -> bool:
        last = int(handler.path.partition("last=")[2] or 0)
        body = json.dumps({"name": "x", "tags": [f"t{last}", f"t{last + 1}"]}).encode()
        link = {"Link": f'</v2/x/tags/list?last={last + 2}>; rel="next"'} if last < 4 else {}
        return reply(handler, 200, body, link)

    proxy.fault = fault
    assert Registry(parse(f"{proxy.host}/x:1")).tags() == ["t0", "t1", "t2", "t3", "t4", "t5"]


def test_a_listing_that_leads_elsewhere_ends(proxy: Proxy) -> None:
    body = json.dumps({"name": "x", "tags": ["a"]}).encode()
    for link in ('<http://127.0.0.1:1/v2/x>; rel="next"', '</v2/x/tags/list?n=1000>; rel="next"'):
        proxy.fault = lambda h, n, link=link: reply(h, 200, body, {"Link": link})
        assert Registry(parse(f"{proxy.host}/x:1")).tags() == ["a"]


def test_referrers(registry: RunningRegistry, proxy: Proxy) -> None:
    """By the interface, page by page; by the tag that stands for it where there is none."""
    made = make_image("subject")
    registry.push("referred", "1", made)
    one, two = ({"digest": f"sha256:{n * 64}", "artifactType": f"kind/{n}"} for n in "ab")
    asking = Registry(parse(f"{proxy.host}/referred:1"))
    assert asking.referrers(made.digest) == []
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": made.media_type,
                "digest": made.digest,
                "size": len(made.manifest),
                "artifactType": "kind/a",
            }
        ],
    }
    tag = made.digest.replace(":", "-")
    registry.push_manifest("referred", tag, json.dumps(index).encode(), index["mediaType"])  # type: ignore[arg-type]
    assert [item["digest"] for item in asking.referrers(made.digest)] == [made.digest]

    def fault(handler: Any, count: int) -> bool:
        if "/referrers/" not in handler.path:
            return False
        again = "last=a" in handler.path
        link = {} if again else {"Link": f'<{handler.path.partition("?")[0]}?last=a>; rel="next"'}
        body = json.dumps({"schemaVersion": 2, "manifests": [two if again else one]})
        return reply(handler, 200, body.encode(), link)

    proxy.fault = fault
    assert asking.referrers(made.digest) == [one, two]
    assert asking.referrers(made.digest, "kind/b") == [two]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it is no map of registries"),
        ({"x": []}, "x: it is no map of settings"),
        ({"x": {"inscure": True}}, "x: there is no 'inscure'; there are insecure, mirrors"),
        ({"x": {"insecure": "yes"}}, "x: insecure is true or false"),
        ({"x": {"mirrors": ["ftp://y"]}}, "x: 'ftp://y' is no server"),
        ({"x": {"ca": "certs/ca.pem"}}, "x: ca is neither PEM nor the absolute path"),
        ({"x": {"cert": "/a"}}, "x: cert and key go together"),
        ({"x": {"password": 7}}, "x: password is a string"),
    ],
)
def test_settings_that_cannot_be_used(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        parse_registries(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_how_long_a_server_wants_to_be_left_alone(text: str, seconds: float) -> None:
    assert transport.retry_after(refused(text)) == seconds


def test_a_server_may_name_the_moment_it_wants_to_be_asked_again() -> None:
    # Taken here and not as a parameter: those are made before the first of all tests runs.
    later = format_datetime(datetime.now(timezone.utc) + timedelta(days=1))
    assert 80_000 < transport.retry_after(refused(later)) <= 86_400


def refused(retry_after: str) -> transport.Answer:
    headers = {"retry-after": retry_after} if retry_after else {}
    return transport.Answer(429, headers, transport.Url("http", "x", "/"))
