"""Runs on the managed host: one blob on its way to a registry, continued where the connection broke.

Small blobs go in one request, larger ones as Docker sends them: a PATCH with all there is, and a PUT that
names the digest. Where a server, or a proxy before it, takes no such body, the pieces get smaller.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Callable

from ..contract.errors import HostctlError
from .endpoint import Endpoint
from .manifest import Descriptor
from .transport import ATTEMPTS, RETRY_AFTER_LIMIT, Answer, Url, retry_after, said

MONOLITHIC = 4 << 20
"""Bytes of a blob that goes in one request."""
_CHUNK = 256 << 10
_LEAST_PIECE = 512 << 10
_SLOWEST = 32 << 10
_GRACE = 300.0


class Upload:
    """Sends a file of the store to where the registry wants it.

    Args:
        place: the upload's address, as the registry gave it.
        step: is told bytes that have been sent for the first time.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        blob: Descriptor,
        path: str,
        place: Url,
        step: Callable[[int], None],
    ) -> None:
        self._endpoint = endpoint
        self._blob = blob
        self._path = path
        self._place = place
        self._step = step
        self._told = 0
        self._position = 0
        self._piece = blob.size

    def run(self) -> None:
        """Until the registry has it all.

        Raises:
            HostctlError: `registry-unreachable`, `registry-rate-limit`, `registry-answer`, `push-refused`.
        """
        deadline = time.monotonic() + _GRACE + self._blob.size / _SLOWEST
        attempt, wait, best = 0, 0.25, 0
        while True:
            try:
                answer = self._try()
            except HostctlError as error:
                if error.ref != "registry-unreachable":
                    raise
                failure, pause = error, wait
            else:
                if answer.status == 201:
                    return
                failure = self._endpoint.failed(answer, f"the upload of {self._blob.digest}")
                pause = max(wait, retry_after(answer))
                if answer.status == 413 and self._piece > _LEAST_PIECE:
                    self._piece = max(_LEAST_PIECE, self._piece // 4)
                elif answer.status not in (404, 416, 429) and answer.status < 500:
                    raise self._refused(answer)
            if self._position > best:
                attempt, wait, best = 0, 0.25, self._position
            attempt += 1
            over = time.monotonic() > deadline or pause > RETRY_AFTER_LIMIT
            if attempt >= 2 * ATTEMPTS or over:
                raise failure
            time.sleep(pause)
            wait = min(2 * wait, 8.0)
            self._look()

    def _try(self) -> Answer:
        """Send from where we are to the end; the first answer that is not the expected one, or 201."""
        small = self._blob.size <= min(MONOLITHIC, self._piece) and not self._position
        while not small and self._position < self._blob.size:
            length = min(self._blob.size - self._position, self._piece)
            headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
            if self._position or length < self._blob.size:
                headers["Content-Range"] = f"{self._position}-{self._position + length - 1}"
            answer = self._send("PATCH", self._place, headers, length)
            if answer.status not in (202, 204):
                return answer
            self._place = self._endpoint.location(answer)
            before = self._position
            self._position = _received(answer, before + length)
            if self._position <= before:
                return answer
        length = self._blob.size if small else 0
        headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
        answer = self._send("PUT", self._final(), headers, length)
        if answer.status == 204:
            answer.status = 201
        return answer

    def _send(self, method: str, url: Url, headers: dict[str, str], length: int) -> Answer:
        start = self._position

        def body() -> Iterator[bytes]:
            with open(self._path, "rb") as file:
                file.seek(start)
                left = length
                while left:
                    chunk = file.read(min(left, _CHUNK))
                    if not chunk:
                        raise OSError(f"{self._path} is shorter than {self._blob.size} bytes")
                    yield chunk
                    left -= len(chunk)
                    self._tell(start + length - left)

        return self._endpoint.request(method, url, headers, body=body, attempts=1)

    def _tell(self, position: int) -> None:
        if position > self._told:
            self._step(position - self._told)
            self._told = position

    def _final(self) -> Url:
        mark = "&" if "?" in self._place.path else "?"
        path = f"{self._place.path}{mark}digest={self._blob.digest.replace(':', '%3A')}"
        return Url(self._place.scheme, self._place.host, path)

    def _look(self) -> None:
        """Find out how much of it arrived; where the registry has forgotten the upload, begin anew."""
        endpoint = self._endpoint
        try:
            answer = endpoint.request("GET", self._place, attempts=1)
        except HostctlError as error:
            if error.ref != "registry-unreachable":
                raise
            return
        if answer.status in (200, 204):
            if "location" in answer.headers:
                self._place = endpoint.location(answer)
            self._position = min(_received(answer, 0), self._blob.size)
        elif answer.status in (404, 400, 405):
            answer = endpoint.request("POST", "blobs/uploads/", {"Content-Length": "0"})
            if answer.status == 202:
                self._place, self._position = endpoint.location(answer), 0

    def _refused(self, answer: Answer) -> HostctlError:
        hint = "look at the registry's log"
        if answer.status == 413:
            hint = (
                "raise the limit of the registry, or of the proxy before it (client_max_body_size)"
            )
        elif answer.status == 400:
            hint = "the blob may have been damaged on this disk or on its way; pull or build the image again"
        return HostctlError(
            f"cannot push {self._endpoint.what}: {self._endpoint.host} does not take "
            f"{self._blob.digest} ({said(answer)})",
            hint=hint,
            ref="push-refused",
        )


def _received(answer: Answer, default: int) -> int:
    """Bytes that the registry has, from `Range: 0-N` (N is the last one it has; nothing is `0-0` or `0--1`)."""
    end = answer.headers.get("range", "").rpartition("=")[2].partition("-")[2]
    if end == "-1":
        return 0
    if not end.isdigit():
        return default
    return int(end) + 1 if int(end) else 0
