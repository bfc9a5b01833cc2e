"""Runs on the managed host: pulls from a registry and its mirrors (OCI distribution 1.1, Docker v2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from ..contract.errors import HostctlError
from ..contract.reference import Reference
from ..contract.registries import settings_for
from .endpoint import Credentials, Endpoint, Registries
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
from .transport import said

if TYPE_CHECKING:
    from ..agent.host import Host

T = TypeVar("T")
ACCEPT = ", ".join(MANIFESTS + INDEXES)
_TAGS = 10_000


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
    """One repository of one registry, with the registry's mirrors in front. Also a `fetch.Source`.

    A mirror that fails, or has not got it, is passed over; what has answered is asked first from then on.

    Args:
        reference: the image; its host decides where to ask.
        insecure: http, or https with any certificate, is fine (there, not at mirrors).
        credentials: registry or repository -> login, see `contract.registries.credentials_for`.
        registries: settings by server.
    """

    def __init__(
        self,
        reference: Reference,
        insecure: bool = False,
        credentials: Credentials | None = None,
        registries: Registries | None = None,
    ) -> None:
        self.reference = reference
        self.what = str(reference)
        known: dict[str, Any] = {"credentials": credentials or {}, "registries": registries or {}}
        mirrors = settings_for(known["registries"], reference.host).mirrors
        self._endpoints = [Endpoint(reference, mirror, **known) for mirror in mirrors]
        self._endpoints.append(Endpoint(reference, insecure=insecure, **known))
        self.origin = self._endpoints[-1]

    @classmethod
    def of(cls, host: Host, reference: Reference, insecure: bool = False) -> Registry:
        """With the logins and settings that this host was told."""
        return cls(reference, insecure, host.credentials, host.registries)

    def close(self) -> None:
        """Close connections."""
        for endpoint in self._endpoints:
            endpoint.close()

    def digest(self) -> str:
        """The digest that the tag points to, without fetching the manifest (if the registry tells)."""

        def ask(endpoint: Endpoint) -> str:
            path = f"manifests/{self.reference.target}"
            answer = endpoint.request("HEAD", path, {"Accept": ACCEPT})
            found = answer.headers.get("docker-content-digest", "")
            if answer.status == 200 and found.startswith("sha256:"):
                return found
            return self._manifest_of(endpoint, self.reference.target)[1]

        return self._first(ask)

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
        """The blob's bytes; the caller verifies the digest. Where one server fails, the next goes on."""
        position = 0
        failures: list[HostctlError] = []
        for endpoint in tuple(self._endpoints):
            try:
                for chunk in endpoint.stream(blob, position):
                    position += len(chunk)
                    yield chunk
                return
            except HostctlError as error:
                failures.append(error)
        raise _joined(failures)

    def tags(self) -> list[str]:
        """All tags of the repository at the registry itself, page by page; empty where it does not tell."""
        found: list[str] = []
        for answer in self.origin.pages("tags/list?n=1000"):
            listed = _content(answer.body).get("tags")
            if answer.status != 200 or not isinstance(listed, list) or len(found) > _TAGS:
                break
            found += map(str, listed)
        return found

    def referrers(self, digest: str, artifact_type: str = "") -> list[dict[str, Any]]:
        """Descriptors of what refers to a manifest: signatures, attestations (OCI distribution 1.1).

        Registries without that interface keep an index under the tag `sha256-HEX`.
        """
        from urllib.parse import urlencode

        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        found: list[dict[str, Any]] = []
        for answer in self.origin.pages(f"referrers/{digest}{query}"):
            if answer.status == 404:
                answer = self.origin.request(
                    "GET", f"manifests/{digest.replace(':', '-')}", {"Accept": ACCEPT}
                )
                if answer.status == 404:
                    break
            if answer.status != 200:
                raise self.origin.failed(answer, f"what refers to {digest}")
            listed = _content(answer.body).get("manifests")
            found += [item for item in listed or () if isinstance(item, dict)]
        # The server may have left the filter out.
        return [one for one in found if artifact_type in ("", one.get("artifactType"))]

    def optional_manifest(self, target: str) -> bytes | None:
        """The bytes of what the repository may have under a tag or digest; None where it has not."""
        try:
            return self._manifest(target)[0]
        except HostctlError as error:
            if error.ref == "image-not-found":
                return None
            raise

    def _manifest(self, target: str) -> tuple[bytes, str, str]:
        """A manifest's bytes, verified digest and claimed type."""
        return self._first(lambda endpoint: self._manifest_of(endpoint, target))

    def _manifest_of(self, endpoint: Endpoint, target: str) -> tuple[bytes, str, str]:
        answer = endpoint.request("GET", f"manifests/{target}", {"Accept": ACCEPT})
        if answer.status == 404:
            raise HostctlError(
                f"cannot pull {self.what}: {endpoint.host} has no such image ({said(answer)})",
                hint=self._near(endpoint),
                ref="image-not-found",
            )
        if answer.status != 200:
            raise endpoint.failed(answer, "the manifest")
        digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
        promised = target if ":" in target else answer.headers.get("docker-content-digest", digest)
        verify(promised, digest, f"the manifest of {self.what}")
        return answer.body, digest, answer.headers.get("content-type", "")

    def _near(self, endpoint: Endpoint) -> str:
        """What to type instead of a tag that is not there."""
        from difflib import get_close_matches

        if endpoint is self.origin and not self.reference.digest:
            try:
                near = get_close_matches(self.reference.tag, self.tags(), 3, 0.5)
            except HostctlError:
                near = []
            if near:
                return f"there is {', '.join(near)}"
        return "check the name and the tag"

    def _first(self, ask: Callable[[Endpoint], T]) -> T:
        """The answer of the first server that has one; the others come after it from now on."""
        failures: list[HostctlError] = []
        for endpoint in tuple(self._endpoints):
            try:
                answer = ask(endpoint)
            except HostctlError as error:
                failures.append(error)
                continue
            if failures:
                self._endpoints.sort(key=lambda one: one is not endpoint)
            return answer
        raise _joined(failures)


def _joined(failures: list[HostctlError]) -> HostctlError:
    """The registry's own error, with what its mirrors said."""
    last = failures[-1]
    if len(failures) == 1:
        return last
    others = "; ".join(error.message for error in failures[:-1])
    joined = HostctlError(f"{last.message} (before it: {others})", hint=last.hint, ref=last.ref)
    joined.__cause__ = last.__cause__
    return joined


def _content(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
