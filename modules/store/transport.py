"""Runs on the managed host: HTTP to one registry: connections kept, redirects, retries, deadlines.

http.client and ssl are imported when a registry is first spoken to. Credentials go to the host that
they are for and are dropped where a redirect leads elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Union

from ..contract.errors import HostctlError
from ..contract.registries import RegistrySettings

CONNECT_TIMEOUT = 10.0
SILENCE_TIMEOUT = 30.0
ATTEMPTS = 5
PATIENCE = 60.0
"""Seconds after which no further attempt is made."""
_REDIRECTS = 5
_BODY_LIMIT = 8 << 20
RETRY_AFTER_LIMIT = 30.0
USER_AGENT = "hostctl/1"
Body = Union[bytes, Callable[[], Iterable[bytes]], None]
"""What is sent; a function gives it anew for each attempt, and `Content-Length` is among the headers."""


@dataclass(frozen=True)
class Url:
    """The parts of an http(s) address that a request needs."""

    scheme: str
    host: str
    path: str

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}"


@dataclass
class Answer:
    """A response with its body read (`body`) or still to be read from `raw`."""

    status: int
    headers: Mapping[str, str]
    url: Url
    body: bytes = b""
    raw: Any = None
    release: Any = None


def parse_url(text: str, base: Url | None = None) -> Url:
    """An absolute address, or one relative to `base`. Raises ValueError for anything but http(s)."""
    from urllib.parse import urljoin, urlsplit

    parts = urlsplit(urljoin(f"{base.origin}{base.path}", text) if base else text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"{text.partition('?')[0]!r} is no http address")
    path = parts.path or "/"
    if any(character <= " " for character in path + parts.query):
        raise ValueError(f"{text.partition('?')[0]!r} is no http address")
    return Url(parts.scheme, parts.netloc, path + (f"?{parts.query}" if parts.query else ""))


def is_loopback(host: str) -> bool:
    """Whether a registry host (with or without port) is this machine itself."""
    name = host
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name in ("localhost", "::1"):
        return True
    parts = name.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdigit() for part in parts)


class Transport:
    """Requests with retries. Threads may share one; each request takes a connection for itself.

    Args:
        what: what messages call the purpose ("docker.io/library/nginx:1").
        verify: check certificates.
        plain: http is allowed at all.
        registries: certificates by server; each is shown its own only, also behind a redirect.
        home: the server whose CA is trusted wherever it sends us (its token server is often signed by it).
        verb: what messages say cannot be done.
    """

    def __init__(
        self,
        what: str,
        verify: bool = True,
        plain: bool = False,
        registries: Mapping[str, RegistrySettings] | None = None,
        home: str = "",
        verb: str = "pull",
    ) -> None:
        self._home = home
        self.what = what
        self.verify = verify
        self.plain = plain
        self.verb = verb
        self._registries = registries or {}
        self._lock = threading.Lock()
        self._idle: dict[str, list[Any]] = {}
        self._contexts: dict[str, Any] = {}

    def request(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        *,
        body: Body = None,
        stream: bool = False,
        attempts: int = ATTEMPTS,
    ) -> Answer:
        """One request, redirects followed, repeated while the server or the way to it is at fault.

        With `attempts` 1 the answer is handed back whatever it is.

        Raises:
            HostctlError: `registry-unreachable`, `registry-rate-limit`, `registry-answer`.
        """
        wait = 0.25
        deadline = time.monotonic() + PATIENCE
        for attempt in range(attempts):
            last = attempt == attempts - 1 or time.monotonic() > deadline
            try:
                answer = self._follow(method, url, dict(headers), body, stream)
            except HostctlError:
                raise
            except Exception as error:
                if last or not _transient(error):
                    raise self._unreachable(url, error) from error
                time.sleep(wait)
                wait *= 2
                continue
            if (answer.status != 429 and answer.status < 500) or last:
                if answer.status == 429 and attempts > 1:
                    raise self.rate_limit(url, answer)
                return answer
            close(answer)
            asked = retry_after(answer)
            if asked > RETRY_AFTER_LIMIT:
                if answer.status == 429:
                    raise self.rate_limit(url, answer)
                return answer
            time.sleep(max(wait, asked))
            wait *= 2
        raise AssertionError("unreachable")

    def _follow(
        self, method: str, url: Url, headers: dict[str, str], body: Body, stream: bool
    ) -> Answer:
        for _ in range(_REDIRECTS):
            answer = self._once(method, url, headers, body, stream)
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            close(answer)
            try:
                target = parse_url(location, url)
            except ValueError as error:
                raise self._refused(url, f"redirects to {error}") from None
            if target.scheme == "http" and url.scheme == "https" and not self.plain:
                raise self._refused(url, f"redirects to unencrypted {target.origin}")
            if target.origin != url.origin:
                headers = {k: v for k, v in headers.items() if k != "Authorization"}
            url = target
        raise self._refused(url, "redirects too often")

    def _once(
        self, method: str, url: Url, headers: dict[str, str], body: Body, stream: bool
    ) -> Answer:
        import socket

        connection, used = self._take(url)
        everything = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        try:
            try:
                response = _exchange(connection, method, url.path, body, everything)
            except (ConnectionError, OSError) as error:
                if not used or isinstance(error, socket.timeout):
                    raise
                # An idle connection that the server has closed meanwhile.
                connection.close()
                connection = self._connect(url)
                response = _exchange(connection, method, url.path, body, everything)
            found = {key.lower(): value for key, value in response.getheaders()}
            answer = Answer(response.status, found, url)
            if stream and response.status in (200, 206):
                answer.raw, answer.release = response, lambda: self._give(url, connection, response)
                return answer
            answer.body = response.read(_BODY_LIMIT + 1) if method != "HEAD" else b""
            if len(answer.body) > _BODY_LIMIT:
                raise self._refused(url, "sends more than 8 MiB where a manifest should be")
            response.read(0) if method != "HEAD" else response.read()
            self._give(url, connection, response)
        except BaseException:
            connection.close()
            raise
        return answer

    def _take(self, url: Url) -> tuple[Any, bool]:
        with self._lock:
            idle = self._idle.get(url.origin)
            if idle:
                return idle.pop(), True
        return self._connect(url), False

    def _give(self, url: Url, connection: Any, response: Any) -> None:
        """Keep the connection if its response was read to the end."""
        if response.isclosed() and connection.sock is not None:
            with self._lock:
                self._idle.setdefault(url.origin, []).append(connection)
        else:
            connection.close()

    def _connect(self, url: Url) -> Any:
        import http.client
        import socket

        from .tls import context

        if url.scheme == "http":
            connection = http.client.HTTPConnection(url.host, timeout=CONNECT_TIMEOUT)
        else:
            with self._lock:
                if url.host not in self._contexts:
                    self._contexts[url.host] = context(
                        url.host, self._registries, self.verify, home=self._home
                    )
            connection = http.client.HTTPSConnection(
                url.host, timeout=CONNECT_TIMEOUT, context=self._contexts[url.host]
            )
        try:
            connection.connect()
            connection.sock.settimeout(SILENCE_TIMEOUT)
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def _unreachable(self, url: Url, error: Exception) -> HostctlError:
        import socket
        import ssl

        cause = str(error) or type(error).__name__
        hint = "check the name, the network and whether the registry runs"
        if isinstance(error, ssl.SSLCertVerificationError):
            cause = f"its certificate is not trusted ({error.verify_message})"
            hint = (
                f"give its CA in hostctl_registries or /etc/docker/certs.d/{url.host}/ca.crt, "
                "or set `insecure: true` on the image"
            )
        elif isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or ""):
            cause = f"it does not accept this host's certificate ({error.reason})"
            hint = "give cert and key for it in hostctl_registries"
        elif isinstance(error, ssl.SSLError):
            cause = f"it does not speak TLS ({error.reason or error})"
            hint = "if it is a plain http registry, set `insecure: true` on the image"
        elif isinstance(error, socket.timeout):
            cause = "it does not answer in time"
        return HostctlError(
            f"cannot reach {url.origin} for {self.what}: {cause}",
            hint=hint,
            ref="registry-unreachable",
        )

    def rate_limit(self, url: Url, answer: Answer) -> HostctlError:
        """The error for a server that wants fewer requests."""
        limit = answer.headers.get("ratelimit-limit", "").partition(";")[0]
        allowed = f"; it allows {limit} in its time" if limit.isdigit() else ""
        asked = retry_after(answer)
        wait = f"wait {asked:.0f} s" if asked else "wait"
        return HostctlError(
            f"cannot {self.verb} {self.what}: {url.host} refuses more requests for now "
            f"(429{_said(answer)}{allowed})",
            hint=f"{wait}, log in (limits are per account): hostctl login, or name a mirror in hostctl_registries",
            ref="registry-rate-limit",
        )

    def _refused(self, url: Url, cause: str) -> HostctlError:
        return HostctlError(
            f"cannot {self.verb} {self.what}: {url.host} {cause}", ref="registry-answer"
        )


def close(answer: Answer) -> None:
    """Give a streaming answer's connection back; it is closed if not all was read."""
    if answer.release is not None:
        answer.release()
        answer.release = None


def said(answer: Answer) -> str:
    """What the registry gave as its reason: its code and message, in one short line."""
    return f"{answer.status}{_said(answer)}"


def _said(answer: Answer) -> str:
    import json

    try:
        first = json.loads(answer.body)["errors"][0]
        text = f"{first.get('code', '')}: {first.get('message', '')}".strip(": ")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
    return " " + "".join(c if c.isprintable() else " " for c in text)[:200]


def _transient(error: Exception) -> bool:
    """Whether another attempt may succeed: not for bad certificates nor unknown names."""
    import http.client
    import socket
    import ssl

    if isinstance(error, (ssl.SSLError, ConnectionRefusedError)):
        return isinstance(error, ssl.SSLEOFError)
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return isinstance(error, (OSError, http.client.HTTPException))


def retry_after(answer: Answer) -> float:
    """Seconds that the server asks to wait: a number or a date (RFC 9110, 10.2.3); 0 if nothing."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text[:9])
    if not text:
        return 0.0
    from datetime import datetime, timezone
    from email.utils import parsedate_to_datetime

    try:
        until = parsedate_to_datetime(text)
        return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError, IndexError):
        return 0.0


def _exchange(
    connection: Any, method: str, path: str, body: Body, headers: Mapping[str, str]
) -> Any:
    """Send a request and take its response, also one that comes while the body is still being sent."""
    try:
        connection.request(
            method, path, body=body() if callable(body) else body, headers=dict(headers)
        )
    except (BrokenPipeError, ConnectionResetError):
        if not callable(body):
            raise
        try:
            return connection.getresponse()
        except Exception:
            pass
        raise
    return connection.getresponse()
