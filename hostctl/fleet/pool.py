"""Runs on the controller: SSH connections shared by hosts that are one login, and kept between plays.

Several inventory hosts may be one sshd with different folders, and a run has a session per play: the key
exchange and the login are then paid once. sshd allows ten sessions per connection unless told otherwise.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .stream import Connection, Stream
from .target import Unreachable

if TYPE_CHECKING:
    from .sshconfig import Hop

    Key = tuple[tuple[Hop, ...], str]

SESSIONS = 8
FORWARDS = 1000  # forwardings through a jump host, which no server limits


class Shareable(Connection, Protocol):
    """A connection that knows whether it still stands."""

    @property
    def alive(self) -> bool: ...


C = TypeVar("C", bound=Shareable)


class _Shared:
    """One connection and how many sessions it carries; `ready` once the login is decided."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.ready = threading.Event()
        self.sessions = 1


class Pool:
    """Hands out connections; asks `connect` only where none of the same login has room."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[Key, list[_Shared]] = {}

    def lease(
        self,
        hops: tuple[Hop, ...],
        password: str,
        connect: Callable[[], C],
        limit: int = SESSIONS,
    ) -> Lease[C]:
        """A connection through these hops. Raises what `connect` raises.

        Args:
            limit: how many may share one.
        """
        key = (tuple(dataclasses.replace(hop, label="") for hop in hops), password)
        while True:
            with self._lock:
                known = self._shared.setdefault(key, [])
                shared = next((item for item in known if item.sessions < limit), None)
                if shared is None:
                    break
                shared.sessions += 1
            shared.ready.wait()
            if shared.connection is not None and shared.connection.alive:
                return Lease(self, key, shared, connect)
            with self._lock:
                if shared in known:
                    known.remove(shared)
            if shared.connection is None:
                break  # that login failed; this host has to say so under its own name
        return Lease(self, key, self._new(key, connect), connect)

    def _new(self, key: Key, connect: Callable[[], Shareable]) -> _Shared:
        shared = _Shared()
        with self._lock:
            self._shared.setdefault(key, []).append(shared)
        try:
            shared.connection = connect()
        except BaseException:
            with self._lock:
                self._shared[key].remove(shared)
            raise
        finally:
            shared.ready.set()
        return shared

    def release(self, shared: _Shared) -> None:
        """One session less."""
        with self._lock:
            shared.sessions -= 1

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            whole = [shared for known in self._shared.values() for shared in known]
            self._shared.clear()
        for shared in whole:
            if shared.connection is not None:
                shared.connection.close()


class Lease(Generic[C]):
    """One session's share of a connection; closing it leaves the connection to the others."""

    def __init__(self, pool: Pool, key: Key, shared: _Shared, connect: Callable[[], C]) -> None:
        self._pool = pool
        self._key = key
        self._shared = shared
        self._connect = connect
        self._own: C | None = None
        self._closed = False

    @property
    def connection(self) -> C:
        """The connection itself."""
        connection: C = self._own or self._shared.connection
        return connection

    def run(self, command: str) -> Stream:
        connection = self.connection
        alone = self._own is not None or self._shared.sessions == 1
        # alone on it, a refusal can only mean that the server still counts the last session
        for _ in range(20 if alone else 1):
            try:
                return connection.run(command)
            except Unreachable:
                if not connection.alive:
                    break
                time.sleep(0.02 if alone else 0)
        if self._own is None:  # the server allows fewer sessions, or the shared connection broke
            connection = self._own = self._connect()
        return connection.run(command)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pool.release(self._shared)
            if self._own is not None:
                self._own.close()
