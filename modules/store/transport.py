"""Runs on the managed host: HTTP to one registry: connections kept, redirects, retries, deadlines.

http.client and ssl are imported when a registry is first spoken to. Credentials go to the host that
they are for and are dropped where a redirect leads elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..contract.errors import HostctlError

CONNECT_TIMEOUT = 10.0
SILENCE_TIMEOUT = 30.0
ATTEMPTS = 5
PATIENCE = 60.0
"""Seconds after which no further attempt is made."""
_REDIRECTS = 5
_BODY_LIMIT = 8 << 20
_RETRY_AFTER_LIMIT = 30.0
USER_AGENT = "hostctl/1"


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
        raise ValueError(f"{text!r} is no http address")
    path = parts.path or "/"
    if any(character <= " " for character in path + parts.query):
        raise ValueError(f"{text!r} is no http address")
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
    """

    def __init__(self, what: str, verify: bool = True, plain: bool = False) -> None:
        self.what = what
        self.verify = verify
        self.plain = plain
        self._lock = threading.Lock()
        self._idle: dict[str, list[Any]] = {}
        self._context: Any = None

    def request(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        stream: bool = False,
        attempts: int = ATTEMPTS,
    ) -> Answer:
        """One request, redirects followed, repeated while the server or the way to it is at fault.

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
                if answer.status == 429:
                    raise self._rate_limit(url, answer)
                return answer
            close(answer)
            time.sleep(max(wait, _retry_after(answer)))
            wait *= 2
        raise AssertionError("unreachable")

    def _follow(
        self, method: str, url: Url, headers: dict[str, str], body: bytes | None, stream: bool
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
        self, method: str, url: Url, headers: dict[str, str], body: bytes | None, stream: bool
    ) -> Answer:
        import socket

        connection, used = self._take(url)
        everything = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        try:
            try:
                connection.request(method, url.path, body=body, headers=everything)
                response = connection.getresponse()
            except (ConnectionError, OSError) as error:
                if not used or isinstance(error, socket.timeout):
                    raise
                # An idle connection that the server has closed meanwhile.
                connection.close()
                connection = self._connect(url)
                connection.request(method, url.path, body=body, headers=everything)
                response = connection.getresponse()
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

        if url.scheme == "http":
            connection = http.client.HTTPConnection(url.host, timeout=CONNECT_TIMEOUT)
        else:
            with self._lock:
                if self._context is None:
                    self._context = _tls(self.verify)
            connection = http.client.HTTPSConnection(
                url.host, timeout=CONNECT_TIMEOUT, context=self._context
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
            hint = "install the CA on the host, or set `insecure: true` on the image"
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

    def _rate_limit(self, url: Url, answer: Answer) -> HostctlError:
        return HostctlError(
            f"cannot pull {self.what}: {url.host} refuses more requests for now "
            f"(429{_said(answer)})",
            hint="wait, log in (limits are per account), or use a mirror",
            ref="registry-rate-limit",
        )

    def _refused(self, url: Url, cause: str) -> HostctlError:
        return HostctlError(f"cannot pull {self.what}: {url.host} {cause}", ref="registry-answer")


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


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return min(float(text), _RETRY_AFTER_LIMIT) if text.isdigit() else 0.0


def _tls(verify: bool) -> Any:
    import ssl

    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
