"""Runs on the managed host: one repository at one server: requests with authorization, blobs that are continued."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from ..contract.errors import HostctlError
from ..contract.reference import DEFAULT_HOST, Reference
from ..contract.registries import RegistrySettings, credentials_for, parse_mirror, settings_for
from .auth import Authorizer
from .manifest import Descriptor
from .transport import ATTEMPTS, Answer, Body, Transport, Url, close, is_loopback, parse_url, said

_HUB = "registry-1.docker.io"
_CHUNK = 256 << 10
_SLOWEST = 32 << 10
_BLOB_GRACE = 300.0
_MIRROR_ATTEMPTS = 2

Credentials = Mapping[str, Mapping[str, str]]
Registries = Mapping[str, RegistrySettings]


class Endpoint:
    """A server that has the repository: the registry of the reference, or a mirror of it.

    Args:
        reference: what is wanted; messages name it.
        mirror: another server than the reference's own, as in `RegistrySettings.mirrors`.
        insecure: http, or https with any certificate, is fine at the reference's own server.
        credentials: registry or repository -> login.
        registries: settings by server.
        verb: `pull` or `push`; what messages say cannot be done.
        scopes: rights that are asked for besides those that the server names.
    """

    def __init__(
        self,
        reference: Reference,
        mirror: str = "",
        *,
        insecure: bool = False,
        credentials: Credentials,
        registries: Registries,
        verb: str = "pull",
        scopes: tuple[str, ...] = (),
    ) -> None:
        host, self.path, self._scheme = reference.host, reference.path, ""
        if mirror:
            named = parse_mirror(mirror)
            host, self._scheme, insecure = named.host, named.scheme, named.scheme == "http"
            self.path = "/".join(filter(None, (named.prefix, reference.path)))
        insecure = insecure or settings_for(registries, host).insecure
        plain = insecure or is_loopback(host)
        self.host = _HUB if host == DEFAULT_HOST else host
        self.attempts = _MIRROR_ATTEMPTS if mirror else ATTEMPTS
        self.verb = verb
        self.what = str(reference).rstrip("/")
        self._scheme = self._scheme or ("" if plain else "https")
        self.transport = Transport(
            self.what,
            verify=not insecure,
            plain=plain,
            registries=registries,
            home=self.host,
            verb=verb,
        )
        login = credentials_for(f"{host}/{self.path}", credentials)
        self.auth = Authorizer(self.transport, self.path, login, scopes)

    def close(self) -> None:
        """Close connections."""
        self.transport.close()

    def url(self, path: str) -> Url:
        """The address of something in the repository, such as `manifests/latest`."""
        return Url(self._known_scheme(), self.host, f"/v2/{self.path}/{path}")

    def request(
        self,
        method: str,
        target: str | Url,
        headers: Mapping[str, str] | None = None,
        *,
        body: Body = None,
        stream: bool = False,
        attempts: int = 0,
    ) -> Answer:
        """One request with authorization; a challenge is answered once.

        Args:
            target: an address, or what `url` takes.
        Raises:
            HostctlError: `registry-unauthorized`, and as `Transport.request`.
        """
        url = self.url(target) if isinstance(target, str) else target
        # An upload's address may lie on another server, which gets no login of this one.
        ours = url.origin == self.url("").origin
        for _ in range(2):
            sent = {**(headers or {}), **(self.auth.headers() if ours else {})}
            answer = self.transport.request(
                method, url, sent, body=body, stream=stream, attempts=attempts or self.attempts
            )
            if answer.status != 401 or not ours:
                break
            if not self.auth.answer(answer.headers.get("www-authenticate", ""), url, sent):
                break
        if answer.status in (401, 403):
            raise self.auth.refusal(f"{self.host} does not allow it ({said(answer)})")
        return answer

    def stream(self, blob: Descriptor, position: int = 0) -> Iterator[bytes]:
        """The blob's bytes from a position on, continued where the connection broke."""
        path = f"blobs/{blob.digest}"
        deadline = time.monotonic() + _BLOB_GRACE + blob.size / _SLOWEST
        attempt = 0
        wait = 0.25
        while True:
            extra = {"Range": f"bytes={position}-"} if position else {}
            answer = self.request("GET", path, {"Accept": "*/*", **extra}, stream=True)
            try:
                if answer.status not in (200, 206):
                    raise self.failed(answer, blob.digest)
                skip = _to_skip(answer, position)
                if skip < 0:
                    raise self.failed(answer, blob.digest)
                while True:
                    try:
                        chunk = answer.raw.read(_CHUNK)
                    except Exception as error:
                        # What of the answer came before the break is part of the exception only.
                        cause = str(error) or type(error).__name__
                        break
                    if not chunk:
                        if position >= blob.size or answer.headers.get("content-length") is None:
                            return
                        cause = "the connection was closed"
                        break
                    if skip:
                        chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                    if chunk:
                        position += len(chunk)
                        attempt, wait = 0, 0.25
                        yield chunk
                    if position > blob.size:
                        return
                    if time.monotonic() > deadline:
                        cause = "it is too slow"
                        break
            finally:
                close(answer)
            attempt += 1
            if attempt >= self.attempts or time.monotonic() > deadline:
                raise HostctlError(
                    f"cannot {self.verb} {self.what}: {self.host} broke off {blob.digest} "
                    f"at {position} of {blob.size} bytes: {cause}",
                    hint="try again: finished layers are kept",
                    ref="registry-unreachable",
                )
            time.sleep(wait)
            wait *= 2

    def pages(self, path: str) -> Iterator[Answer]:
        """Answers of a listing, one after another by `Link` (RFC 8288), until one has another status than 200."""
        target: Url | None = self.url(path)
        seen = set()
        while target is not None and target not in seen:
            seen.add(target)
            answer = self.request("GET", target, {"Accept": "application/json, */*"})
            yield answer
            if answer.status != 200:
                return
            target = _next_page(answer)

    def location(self, answer: Answer) -> Url:
        """Where the server wants an upload to go on.

        Raises:
            HostctlError: `registry-answer`: nowhere, or unencrypted where it is not allowed.
        """
        try:
            found = parse_url(answer.headers["location"], answer.url)
        except (KeyError, ValueError):
            raise self.failed(answer, "an upload, and no place for it") from None
        if found.scheme == "http" and answer.url.scheme == "https":
            # Servers behind a proxy that ends TLS often do not know their own address.
            found = Url("https", found.host, found.path)
        return found

    def failed(self, answer: Answer, part: str) -> HostctlError:
        """The error for an answer that nobody expects."""
        if answer.status == 429:
            return self.transport.rate_limit(answer.url, answer)
        return HostctlError(
            f"cannot {self.verb} {self.what}: {self.host} answers {said(answer)} for {part}",
            hint="try again later, or look at the registry's log",
            ref="registry-answer",
        )

    def _known_scheme(self) -> str:
        if not self._scheme:
            self._scheme = self._probe()
        return self._scheme

    def _probe(self) -> str:
        """Where http is allowed: whether the server speaks it, or https after all.

        http goes first: an https server says that it is one, an http server given TLS just hangs up.
        """
        import socket

        ask = self.transport.request
        try:
            answer = ask("GET", Url("http", self.host, "/v2/"), {}, attempts=1)
            return "https" if answer.status == 400 and b"HTTPS" in answer.body else "http"
        except HostctlError as error:
            if isinstance(
                error.__cause__, (socket.timeout, socket.gaierror, ConnectionRefusedError)
            ):
                raise
        try:
            ask("GET", Url("https", self.host, "/v2/"), {}, attempts=1)
        except HostctlError:
            # Neither: what is wrong with http is what the next request will say.
            return "http"
        return "https"


def _to_skip(answer: Answer, position: int) -> int:
    """Bytes at the start of the answer that came before; -1 if it is another part than asked for."""
    if answer.status == 200:
        return position
    start = answer.headers.get("content-range", "").partition("bytes ")[2].partition("-")[0]
    return position - int(start) if start.isdigit() and int(start) <= position else -1


def _next_page(answer: Answer) -> Url | None:
    """The next page of a listing; only of the same server, which alone gets the login."""
    import re

    for target, words in re.findall(r"<([^>]*)>([^<]*)", answer.headers.get("link", "")):
        if re.search(r";\s*rel\s*=\s*\"?next\b", words):
            try:
                found = parse_url(target, answer.url)
            except ValueError:
                return None
            return found if found.origin == answer.url.origin else None
    return None
