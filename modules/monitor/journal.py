"""Runs on the managed host, in a monitor: the container's log as entries of journald, with Docker's field names.

One datagram a line, of at most 16 KiB: nothing is ever too large for a datagram. While the journal takes nothing
the container waits for a moment; then lines are dropped, counted, and said once they can be.
Source: systemd's Native Journal Protocol; docs.docker.com, the logging driver journald.
"""

from __future__ import annotations

import _socket as socket
import os
import struct
import time

from ..contract.errors import HostctlError
from . import apart
from .log import MAX_LINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

SOCKET = "/run/systemd/journal/socket"
_PARTIAL = b"CONTAINER_PARTIAL_MESSAGE=true\n"
_PRIORITIES = (b"PRIORITY=6\n", b"PRIORITY=3\n")
_QUEUE = 1 << 20
_SO_SNDBUFFORCE = 32
_SECONDS = 1
_AGAIN = 1.0


def connect() -> int:
    """A descriptor that entries are written to. Raises HostctlError where there is no journald."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        peer.connect(SOCKET)
    except OSError as error:
        peer.close()
        raise HostctlError(
            f"cannot write to the journal: {SOCKET}: {error.strerror}",
            hint="the host has no journald, or it does not run; `logging: {driver: json-file}` needs none",
            ref="no-journald",
        ) from error
    try:
        peer.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _QUEUE)
    except PermissionError:
        pass  # not root of the first user namespace: the kernel's default holds a line, too
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SECONDS, 0))
    return peer.detach()


def fields(name: str, identity: str, image: str, tag: str) -> bytes:
    """What all entries of a container have in common."""
    for word, value in (
        ("{{.ID}}", identity[:12]),
        ("{{.FullID}}", identity),
        ("{{.Name}}", name),
        ("{{.ImageName}}", image),
    ):
        tag = tag.replace(word, value)
    tag = tag or identity[:12]
    pairs = {
        "CONTAINER_ID": identity[:12],
        "CONTAINER_ID_FULL": identity,
        "CONTAINER_NAME": name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": image,
        "SYSLOG_IDENTIFIER": tag,
    }
    return "".join(f"{key}={value}\n" for key, value in pairs.items()).encode()


class Journal:
    """The log behind the descriptor `apart.LOG`; as `log.Log`.

    Args:
        common: of `fields`.
        reopen: puts another connection behind the descriptor.
    """

    def __init__(self, common: bytes, reopen: Callable[[], object]) -> None:
        self._common = common
        self._reopen = reopen
        self._rest = [b"", b""]
        self._stuck = False
        self._reopened = 0.0
        self.dropped = 0

    def feed(self, fd: int, data: bytes) -> None:
        which = fd - apart.STDOUT
        lines = (self._rest[which] + data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            self._entry(which, self._cut(which, line))
        # A piece is cut off when more of its line is there: the last one is not partial.
        self._rest[which] = self._cut(which, rest)

    def flush(self) -> None:
        """Send what still waits for a newline: the container has ended."""
        for which, rest in enumerate(self._rest):
            if rest:
                self._rest[which] = b""
                self._entry(which, rest)

    def _cut(self, which: int, line: bytes) -> bytes:
        while len(line) > MAX_LINE:
            self._entry(which, line[:MAX_LINE], _PARTIAL)
            line = line[MAX_LINE:]
        return line

    def _entry(self, which: int, line: bytes, partial: bytes = b"") -> None:
        if self.dropped:
            said = b"hostctl dropped %d log lines: the journal did not take them" % self.dropped
            if not self._send(self._common + _PRIORITIES[1] + b"MESSAGE=" + said + b"\n"):
                self.dropped += 1
                return
            self.dropped = 0
        if not partial and line.endswith(b"\r"):
            line = line[:-1]  # a terminal's end of a line
        if not self._send(self._common + _PRIORITIES[which] + partial + b"MESSAGE=" + line + b"\n"):
            self.dropped += 1

    def _send(self, data: bytes) -> bool:
        for _ in range(2):
            try:
                os.write(apart.LOG, data)
            except BlockingIOError:
                # Waited for once; from now on nobody waits until it takes something again.
                self._block(stuck=True)
                return False
            except OSError:
                if not self._renewed():
                    return False
            else:
                self._block(stuck=False)
                return True
        return False

    def _block(self, *, stuck: bool) -> None:
        if stuck != self._stuck:
            self._stuck = stuck
            os.set_blocking(apart.LOG, not stuck)

    def _renewed(self) -> bool:
        """The journal was started anew, and its socket too: connect again, at most once a second."""
        now = time.monotonic()
        if now - self._reopened < _AGAIN:
            return False
        self._reopened = now
        self._reopen()
        self._stuck = False
        return True
