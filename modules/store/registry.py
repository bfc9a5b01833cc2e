"""Runs on the managed host: pulls from a registry (OCI distribution, Docker v2)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..contract.errors import HostctlError
from ..contract.reference import DEFAULT_HOST, Reference
from .auth import Authorizer, credentials_for, unauthorized
from .fetch import verify
from .manifest import (
    INDEXES,
    MANIFESTS,
    Descriptor,
    Manifest,
    choose,
    media_type_of,
    parse_manifest,
)
from .transport import ATTEMPTS, Answer, Transport, Url, close, is_loopback, said

_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join(MANIFESTS + INDEXES)
_CHUNK = 256 << 10
_SLOWEST = 32 << 10
_BLOB_GRACE = 300.0


@dataclass(frozen=True)
class Remote:
    """What a reference stands for in its registry right now.

    Attributes:
        digest: what the tag points to: an index or a manifest.
        manifest: the image's manifest for the wanted platform.
    """

    digest: str
    manifest: Manifest

    @property
    def size(self) -> int:
        """Bytes of all layers, compressed."""
        return sum(layer.size for layer in self.manifest.layers)


class Registry:
    """One repository of one registry. Also a `fetch.Source`.

    Args:
        reference: the image; its host decides where to ask.
        insecure: http, or https with any certificate, is fine.
        credentials: registry host -> {"username", "password"}.
    """

    def __init__(
        self,
        reference: Reference,
        insecure: bool = False,
        credentials: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.reference = reference
        self.what = str(reference)
        known = credentials_for(reference.host, credentials or {})
        plain = insecure or is_loopback(reference.host)
        self._credentials = known
        self._transport = Transport(self.what, verify=not insecure, plain=plain)
        self._auth = Authorizer(self._transport, reference.path, known)
        self._host = _HUB if reference.host == DEFAULT_HOST else reference.host
        self._scheme = "" if plain else "https"

    def close(self) -> None:
        """Close connections."""
        self._transport.close()

    def digest(self) -> str:
        """The digest that the tag points to, without fetching the manifest (if the registry tells)."""
        answer = self._get(f"manifests/{self.reference.target}", method="HEAD", accept=_ACCEPT)
        found = answer.headers.get("docker-content-digest", "")
        if answer.status == 200 and found.startswith("sha256:"):
            return found
        return self._manifest(self.reference.target)[1]

    def resolve(self, platform: str = "") -> Remote:
        """Find the image's manifest, through an index where there is one.

        Raises:
            HostctlError: `image-not-found`, `image-platform`, `registry-...`, `digest-mismatch`.
        """
        raw, digest, claimed = self._manifest(self.reference.target)
        media_type, content = media_type_of(raw, claimed, self.what)
        if media_type in MANIFESTS:
            return Remote(digest, parse_manifest(raw, digest, claimed, self.what))
        chosen = choose(content, platform, self.what)
        raw, inner, claimed = self._manifest(chosen.digest)
        return Remote(digest, parse_manifest(raw, inner, claimed, self.what))

    def stream(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob's bytes, continued where the connection broke; the caller verifies the digest."""
        path = f"blobs/{blob.digest}"
        deadline = time.monotonic() + _BLOB_GRACE + blob.size / _SLOWEST
        position = attempt = 0
        wait = 0.25
        while True:
            answer = self._get(
                path,
                accept="*/*",
                stream=True,
                extra={"Range": f"bytes={position}-"} if position else {},
            )
            try:
                if answer.status not in (200, 206):
                    raise self._failed(answer, blob.digest)
                skip = _to_skip(answer, position)
                if skip < 0:
                    raise self._failed(answer, blob.digest)
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
            finally:
                close(answer)
            attempt += 1
            if attempt >= ATTEMPTS or time.monotonic() > deadline:
                raise HostctlError(
                    f"cannot pull {self.what}: {self._host} broke off {blob.digest} "
                    f"at {position} of {blob.size} bytes: {cause}",
                    hint="try again: finished layers are kept",
                    ref="registry-unreachable",
                )
            time.sleep(wait)
            wait *= 2

    def _manifest(self, target: str) -> tuple[bytes, str, str]:
        """A manifest's bytes, verified digest and claimed type."""
        answer = self._get(f"manifests/{target}", accept=_ACCEPT)
        if answer.status == 404:
            raise HostctlError(
                f"cannot pull {self.what}: {self._host} has no such image ({said(answer)})",
                hint="check the name and the tag",
                ref="image-not-found",
            )
        if answer.status != 200:
            raise self._failed(answer, "the manifest")
        digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
        promised = target if ":" in target else answer.headers.get("docker-content-digest", digest)
        verify(promised, digest, f"the manifest of {self.what}")
        return answer.body, digest, answer.headers.get("content-type", "")

    def _get(
        self,
        path: str,
        *,
        accept: str,
        method: str = "GET",
        stream: bool = False,
        extra: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request with authorization; a challenge is answered once."""
        if not self._scheme:
            self._scheme = self._probe()
        for _ in range(2):
            url = Url(self._scheme, self._host, f"/v2/{self.reference.path}/{path}")
            sent = {"Accept": accept, **(extra or {}), **self._auth.headers()}
            answer = self._transport.request(method, url, sent, stream=stream)
            if answer.status != 401:
                break
            if not self._auth.answer(answer.headers.get("www-authenticate", ""), url, sent):
                break
        if answer.status in (401, 403):
            raise unauthorized(
                self.what,
                f"{self._host} does not allow it ({said(answer)})",
                bool(self._credentials),
            )
        return answer

    def _probe(self) -> str:
        """Where http is allowed: whether the registry speaks it, or https after all.

        http goes first: an https server says that it is one, an http server given TLS just hangs up.
        """
        import socket

        try:
            answer = self._transport.request("GET", Url("http", self._host, "/v2/"), {}, attempts=1)
            return "https" if answer.status == 400 and b"HTTPS" in answer.body else "http"
        except HostctlError as error:
            if isinstance(
                error.__cause__, (socket.timeout, socket.gaierror, ConnectionRefusedError)
            ):
                raise
        try:
            self._transport.request("GET", Url("https", self._host, "/v2/"), {}, attempts=1)
        except HostctlError:
            # Neither: what is wrong with http is what the next request will say.
            return "http"
        return "https"

    def _failed(self, answer: Answer, part: str) -> HostctlError:
        return HostctlError(
            f"cannot pull {self.what}: {self._host} answers {said(answer)} for {part}",
            hint="try again later, or look at the registry's log",
            ref="registry-answer",
        )


def _to_skip(answer: Answer, position: int) -> int:
    """Bytes at the start of the answer that came before; -1 if it is another part than asked for."""
    if answer.status == 200:
        return position
    start = answer.headers.get("content-range", "").partition("bytes ")[2].partition("-")[0]
    return position - int(start) if start.isdigit() and int(start) <= position else -1
