"""Runs on the managed host, in the DNS process: passes queries on to the host's resolvers."""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from . import dns_wire as wire
from .dns_names import Upstreams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

ATTEMPT_SECONDS = 1.5
ROUNDS = 2
PENDING_LIMIT = 2000


class Loop:
    """Who wants to know when a descriptor can be read."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call `handler(fd)` whenever there is something to read."""
        self._epoll.register(fd, select.EPOLLIN)
        self._handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor, before it is closed; an unknown one is fine."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, timeout: float) -> None:
        """Wait for events, and handle them. A handler may meet nothing to read: another came first."""
        for fd, _ in self._epoll.poll(timeout):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(fd)


class Pending:
    """A query that was passed on: to whom the answer goes, and which resolver is being asked."""

    __slots__ = ("attempt", "client", "data", "deadline", "query", "reply", "upstream")

    def __init__(self, data: bytes, query: wire.Query, reply: socket.socket, client: Any) -> None:
        self.data = data
        self.query = query
        self.reply = reply
        self.client = client
        self.attempt = -1
        self.deadline = 0.0
        self.upstream: socket.socket | None = None


class Forwarder:
    """Asks one resolver after the other, twice round; then the client is told that it failed."""

    def __init__(self, loop: Loop, upstreams: Upstreams) -> None:
        self._loop = loop
        self._upstreams = upstreams
        self._pending: dict[int, Pending] = {}

    def forward(self, data: bytes, query: wire.Query, reply: socket.socket, client: Any) -> None:
        """Answer `client` through `reply` when a resolver has; beyond a limit queries are dropped."""
        if len(self._pending) < PENDING_LIMIT:
            self._ask(Pending(data, query, reply, client))

    def timeout(self) -> float | None:
        """Seconds until `retry_late` has something to do, None if never."""
        if not self._pending:
            return None
        soonest = min(pending.deadline for pending in self._pending.values())
        return max(0.0, soonest - time.monotonic())

    def retry_late(self) -> None:
        """Ask the next resolver for what was not answered in time."""
        now = time.monotonic()
        for pending in [p for p in self._pending.values() if p.deadline <= now]:
            self._ask(pending)

    def ask_tcp(self, data: bytes) -> bytes | None:
        """The answer over TCP, waiting for it (in a thread of its own), or None."""
        for family, address in self._upstreams.get():
            try:
                with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as one:
                    one.settimeout(ATTEMPT_SECONDS * 2)
                    one.connect(address)
                    send_message(one, data)
                    found = receive_message(one)
            except OSError:
                continue
            if found and wire.response_code(found) not in (wire.SERVFAIL, wire.REFUSED):
                return found
        return None

    def _ask(self, pending: Pending) -> None:
        self._drop(pending)
        upstreams = self._upstreams.get()
        while pending.attempt + 1 < ROUNDS * len(upstreams):
            pending.attempt += 1
            family, address = upstreams[pending.attempt % len(upstreams)]
            # A new socket each time: the kernel picks a random port, and only this resolver can answer.
            one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            one.setblocking(False)
            try:
                one.connect(address)
                one.send(pending.data)
            except OSError:
                one.close()
                continue
            pending.upstream = one
            pending.deadline = time.monotonic() + ATTEMPT_SECONDS
            self._pending[one.fileno()] = pending
            self._loop.watch(one.fileno(), self._from_upstream)
            return
        failed = wire.answer(pending.query, wire.SERVFAIL, [], pending.query.limit)
        send(pending.reply, failed, pending.client)

    def _from_upstream(self, fd: int) -> None:
        pending = self._pending[fd]
        assert pending.upstream is not None
        try:
            data = pending.upstream.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            # Nobody listens there.
            self._ask(pending)
            return
        if data[:2] != pending.data[:2]:
            return
        last = pending.attempt + 1 >= len(self._upstreams.get())
        if wire.response_code(data) in (wire.SERVFAIL, wire.REFUSED) and not last:
            self._ask(pending)
            return
        self._drop(pending)
        # Truncated answers pass as they are: the client comes again over TCP.
        send(pending.reply, data, pending.client)

    def _drop(self, pending: Pending) -> None:
        if pending.upstream is not None:
            self._loop.unwatch(pending.upstream.fileno())
            del self._pending[pending.upstream.fileno()]
            pending.upstream.close()
            pending.upstream = None


def send(one: socket.socket, data: bytes, client: Any) -> None:
    """Send an answer; a client or container that has gone in between is nobody's failure."""
    try:
        one.sendto(data, client)
    except OSError:
        pass


def send_message(one: socket.socket, data: bytes) -> None:
    """One message over TCP, with its length before it."""
    one.sendall(struct.pack(">H", len(data)) + data)


def receive_message(one: socket.socket) -> bytes:
    """One message over TCP, empty at the end of the stream."""
    head = _exactly(one, 2)
    return _exactly(one, struct.unpack(">H", head)[0]) if len(head) == 2 else b""


def shuffled(values: list[str]) -> list[str]:
    """In an order of chance (importing `random` would double the process)."""
    return sorted(values, key=lambda _: os.urandom(2))


def _exactly(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = one.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data
