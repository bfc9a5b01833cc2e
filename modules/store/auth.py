"""Runs on the managed host: proves to a registry who asks: bearer tokens (anonymous too) and basic.

Credentials are in memory only and never part of a message.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Mapping

from ..contract.errors import HostctlError
from .transport import Transport, Url, is_loopback, parse_url, said

_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_DOCKER_HUB = (
    "docker.io",
    "index.docker.io",
    "https://index.docker.io/v1/",
    "registry-1.docker.io",
)


def credentials_for(host: str, known: Mapping[str, Mapping[str, str]]) -> Mapping[str, str] | None:
    """The entry for a registry, under any of the names that Docker's files use."""
    names = _DOCKER_HUB if host == "docker.io" else (host, f"https://{host}", f"http://{host}")
    for name in names:
        if name in known:
            return known[name]
    return None


class Authorizer:
    """The `Authorization` header for one repository, found out from the registry's challenge."""

    def __init__(
        self, transport: Transport, repository: str, credentials: Mapping[str, str] | None
    ) -> None:
        self._transport = transport
        self._repository = repository
        self._credentials = credentials
        self._lock = threading.Lock()
        self._header = ""

    def headers(self) -> dict[str, str]:
        """What is known to be wanted so far."""
        return {"Authorization": self._header} if self._header else {}

    def answer(self, challenge: str, url: Url, sent: Mapping[str, str]) -> bool:
        """Learn from a 401. False if there is nothing more to try.

        Args:
            challenge: the `WWW-Authenticate` header.
            url: who challenged.
            sent: the headers that were refused.
        """
        with self._lock:
            if self._header and sent.get("Authorization") != self._header:
                # Another thread has got a token meanwhile.
                return True
            scheme, _, rest = challenge.strip().partition(" ")
            if scheme.lower() == "basic":
                header = self._basic()
            elif scheme.lower() == "bearer":
                header = self._token(_parameters(rest), url)
            else:
                header = ""
            if not header or header == sent.get("Authorization"):
                return False
            self._header = header
            return True

    def _basic(self) -> str:
        if not self._credentials:
            return ""
        pair = f"{self._credentials.get('username', '')}:{self._credentials.get('password', '')}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def _token(self, wanted: dict[str, str], url: Url) -> str:
        from urllib.parse import urlencode

        try:
            realm = parse_url(wanted.get("realm", ""))
        except ValueError:
            raise self._unauthorized(f"{url.host} names no usable token server") from None
        if realm.scheme == "http" and url.scheme == "https" and not is_loopback(realm.host):
            raise self._unauthorized(f"{url.host} wants the login sent unencrypted to {realm.host}")
        query = {"scope": wanted.get("scope") or f"repository:{self._repository}:pull"}
        if "service" in wanted:
            query["service"] = wanted["service"]
        path = f"{realm.path}{'&' if '?' in realm.path else '?'}{urlencode(query)}"
        basic = self._basic()
        answer = self._transport.request(
            "GET",
            Url(realm.scheme, realm.host, path),
            {"Authorization": basic} if basic else {},
        )
        if answer.status != 200:
            raise self._unauthorized(f"{realm.host} gives no token ({said(answer)})")
        try:
            content = json.loads(answer.body)
            token = content.get("token") or content.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token or not token.isprintable():
            raise self._unauthorized(f"{realm.host} gives no token")
        return f"Bearer {token}"

    def _unauthorized(self, cause: str) -> HostctlError:
        return unauthorized(self._transport.what, cause, bool(self._credentials))


def unauthorized(what: str, cause: str, tried: bool) -> HostctlError:
    """The error for a registry that does not let us in."""
    hint = (
        "check user and password" if tried else "give credentials for it (docker login writes them)"
    )
    return HostctlError(
        f"cannot pull {what}: {cause}",
        hint=f"{hint}; some registries answer so for images that do not exist: check name and tag",
        ref="registry-unauthorized",
    )


def _parameters(text: str) -> dict[str, str]:
    """The `key="value"` pairs of a challenge."""
    return {
        match[1].lower(): re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        for match in _PARAMETER.finditer(text)
    }
