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
from .transport import Answer, Transport, Url, is_loopback, parse_url, said

_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Authorizer:
    """The `Authorization` header for one repository, found out from the registry's challenge.

    Args:
        credentials: `username` and `password`, or `identitytoken` (OAuth2), or `problem`: why there are none.
        scopes: what is asked for besides what the challenge names (`repository:PATH:pull,push`).
    """

    def __init__(
        self,
        transport: Transport,
        repository: str,
        credentials: Mapping[str, str] | None,
        scopes: tuple[str, ...] = (),
    ) -> None:
        self._transport = transport
        self._repository = repository
        self._scopes = scopes
        self._credentials = credentials
        self._lock = threading.Lock()
        self._header = ""

    def also(self, scopes: tuple[str, ...]) -> None:
        """Ask for these, too."""
        self._scopes = (*self._scopes, *scopes)

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
        if not self._credentials or "username" not in self._credentials:
            return ""
        pair = f"{self._credentials.get('username', '')}:{self._credentials.get('password', '')}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def _token(self, wanted: dict[str, str], url: Url) -> str:
        from urllib.parse import urlencode

        try:
            realm = parse_url(wanted.get("realm", ""))
        except ValueError:
            raise self.refusal(f"{url.host} names no usable token server") from None
        if realm.scheme == "http" and url.scheme == "https" and not is_loopback(realm.host):
            raise self.refusal(f"{url.host} wants the login sent unencrypted to {realm.host}")
        own = f"repository:{self._repository}:pull" if self._repository else ""
        challenged = wanted.get("scope") or own
        named = {scope.rpartition(":")[0] for scope in self._scopes}
        scopes = [one for one in challenged.split() if one.rpartition(":")[0] not in named]
        query: list[tuple[str, str]] = [("scope", scope) for scope in (*self._scopes, *scopes)]
        if "service" in wanted:
            query.append(("service", wanted["service"]))
        identity = (self._credentials or {}).get("identitytoken")
        if identity:
            answer = self._exchange(realm, query, identity)
        else:
            path = f"{realm.path}{'&' if '?' in realm.path else '?'}{urlencode(query)}"
            basic = self._basic()
            headers = {"Authorization": basic} if basic else {}
            answer = self._transport.request("GET", Url(realm.scheme, realm.host, path), headers)
        if answer.status != 200:
            raise self.refusal(f"{realm.host} gives no token ({said(answer)})")
        try:
            content = json.loads(answer.body)
            token = content.get("token") or content.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token or not token.isprintable():
            raise self.refusal(f"{realm.host} gives no token")
        return f"Bearer {token}"

    def _exchange(self, realm: Url, query: list[tuple[str, str]], identity: str) -> Answer:
        """Ask for a token with an identity token instead of a password (Docker's OAuth2 flow)."""
        from urllib.parse import urlencode

        scopes = " ".join(value for key, value in query if key == "scope")
        form = {
            "grant_type": "refresh_token",
            "client_id": "hostctl",
            "refresh_token": identity,
            "scope": scopes,
            **{key: value for key, value in query if key == "service"},
        }
        return self._transport.request(
            "POST",
            realm,
            {"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )

    def refusal(self, cause: str) -> HostctlError:
        """The error for a registry that does not let us in."""
        known = self._credentials or {}
        hint = "give a login for it: hostctl login"
        if known.get("problem"):
            hint = known["problem"]
        elif known:
            hint = "check user and password: hostctl login"
        return HostctlError(
            f"cannot {self._transport.verb} {self._transport.what}: {cause}",
            hint=f"{hint}; some registries answer so for images that do not exist: check name and tag",
            ref="registry-unauthorized",
        )


def _parameters(text: str) -> dict[str, str]:
    """The `key="value"` pairs of a challenge."""
    return {
        match[1].lower(): re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        for match in _PARAMETER.finditer(text)
    }
