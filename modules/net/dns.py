"""Runs on the managed host: one small process that answers all containers' DNS queries.

It holds no state of its own: sockets come from the containers' monitors, names from the run folder. Kill
it at any time: the monitors keep the sockets open, queries wait in them, and the first monitor that notices
starts the next process. It ends by itself when it has had no sockets for ten seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import time
from _thread import start_new_thread

from . import dns_wire as wire
from .dns_names import Network, Upstreams

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Importing typing at run time would be a seventh of the process's memory.
    from typing import Any, Callable

IDLE_SECONDS = 10.0
ATTEMPT_SECONDS = 1.5
ROUNDS = 2
PENDING_LIMIT = 2000
TCP_LIMIT = 64
TCP_SECONDS = 10.0


class Registration:
    """One container's sockets, and the networks whose names it may ask for."""

    def __init__(
        self, container: str, networks: list[Network], sockets: list[socket.socket]
    ) -> None:
        self.container = container
        self.networks = networks
        self.sockets = sockets
        self.pidfd = -1

    def close(self) -> None:
        for one in self.sockets:
            one.close()


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


class Server:
    """The loop. UDP is answered in it; each TCP connection, which is rare, has a thread."""

    def __init__(self, data_dir: str, run_dir: str, listener: socket.socket) -> None:
        self._data_dir = data_dir
        self._run_dir = run_dir
        self._listener = listener
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._networks: dict[str, Network] = {}
        self._upstreams = Upstreams()
        self._registrations: dict[str, Registration] = {}
        self._monitors: dict[int, tuple[socket.socket, str]] = {}
        self._pending: dict[int, Pending] = {}
        self._threads = 0
        self._idle_since = time.monotonic()

    def run(self) -> None:
        """Serve until there has been nothing to serve for a while."""
        self._listener.setblocking(False)
        self._watch(self._listener.fileno(), self._accept)
        while True:
            for fd, _ in self._epoll.poll(self._timeout()):
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(fd)
            self._retry_late()
            if self._registrations or self._monitors:
                self._idle_since = time.monotonic()
            elif time.monotonic() - self._idle_since > IDLE_SECONDS and self._leave():
                return

    def _timeout(self) -> float:
        if not self._pending:
            return IDLE_SECONDS / 2
        soonest = min(pending.deadline for pending in self._pending.values())
        return max(0.0, min(soonest - time.monotonic(), IDLE_SECONDS / 2))

    def _watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._handlers[fd] = handler

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _leave(self) -> bool:
        """Take the socket's name away, unless a monitor is just about to use it."""
        with open(os.path.join(self._run_dir, "dns.lock"), "w", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            if _is_readable(self._listener.fileno()):
                return False
            for name in ("dns.sock", "dns.log"):
                os.unlink(os.path.join(self._run_dir, name))
            return True

    def _accept(self, _: int) -> None:
        try:
            monitor, _address = self._listener.accept()
        except OSError:
            return
        monitor.setblocking(False)
        self._monitors[monitor.fileno()] = (monitor, "")
        self._watch(monitor.fileno(), self._from_monitor)

    def _from_monitor(self, fd: int) -> None:
        monitor, container = self._monitors[fd]
        try:
            data, ancillary, _, _ = monitor.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary = b"", []
        fds = [
            number
            for _, kind, raw in ancillary
            if kind == socket.SCM_RIGHTS
            for number in _ints(raw)
        ]
        if data:
            self._monitors[fd] = (monitor, self._register(json.loads(data), fds))
            return
        self._unwatch(fd)
        del self._monitors[fd]
        monitor.close()
        registration = self._registrations.get(container)
        others = [name for _, name in self._monitors.values()]
        # A monitor that was killed leaves its container running: its names go on working.
        if registration is not None and registration.pidfd < 0 and container not in others:
            self._forget(registration)

    def _register(self, message: dict[str, Any], fds: list[int]) -> str:
        container = message["container"]
        sockets = [socket.socket(fileno=fd) for fd in fds]
        networks = [self._network(name) for name in message["networks"]]
        registration = Registration(container, networks, sockets)
        old = self._registrations.get(container)
        if old is not None:
            self._forget(old)
        self._registrations[container] = registration
        for one in sockets:
            one.setblocking(False)
            self._watch_client(one, registration)
        if message.get("pid"):
            self._follow(registration, message["pid"])
        return str(container)

    def _watch_client(self, one: socket.socket, registration: Registration) -> None:
        datagrams = one.type == socket.SOCK_DGRAM
        handler = self._from_client if datagrams else self._accept_client
        self._watch(one.fileno(), lambda _: handler(one, registration))

    def _follow(self, registration: Registration, pid: int) -> None:
        """Keep the sockets until the container's first process ends, whatever happens to its monitor."""
        try:
            registration.pidfd = os.pidfd_open(pid)
        except OSError:
            return
        self._watch(registration.pidfd, lambda fd: self._container_ended(fd, registration))

    def _container_ended(self, fd: int, registration: Registration) -> None:
        # Checked, because an event can be of an older descriptor of the same number.
        if registration.pidfd == fd and _is_readable(fd):
            self._forget(registration)

    def _forget(self, registration: Registration) -> None:
        for one in registration.sockets:
            if one.type == socket.SOCK_DGRAM:
                self._from_client(one, registration)
            self._unwatch(one.fileno())
        if registration.pidfd >= 0:
            self._unwatch(registration.pidfd)
            os.close(registration.pidfd)
            registration.pidfd = -1
        registration.close()
        if self._registrations.get(registration.container) is registration:
            del self._registrations[registration.container]

    def _network(self, name: str) -> Network:
        if name not in self._networks:
            self._networks[name] = Network(self._data_dir, self._run_dir, name)
        return self._networks[name]

    def _from_client(self, one: socket.socket, registration: Registration) -> None:
        for _ in range(64):
            try:
                data, client = one.recvfrom(4096)
            except OSError:
                return
            query = wire.parse(data)
            if query is None:
                continue
            known = self._answer(query, registration, query.limit)
            if known is not None:
                _send(one, known, client)
            elif len(self._pending) < PENDING_LIMIT:
                self._ask(Pending(data, query, one, client))

    def _answer(self, query: wire.Query, registration: Registration, limit: int) -> bytes | None:
        """The answer from the container's networks, or None where the host's resolvers must be asked."""
        networks = registration.networks
        addresses = _lookup(query.name, networks)
        if addresses:
            addresses.sort(key=lambda _: os.urandom(2))
            wanted = query.type in (wire.A, wire.ANY)
            records = [(wire.A, socket.inet_aton(a)) for a in addresses] if wanted else []
            return wire.answer(query, wire.NOERROR, records, limit)
        owner = _reverse(wire.reverse_address(query.name), networks)
        if owner:
            records = [(wire.PTR, wire.encode_name(owner))] if query.type == wire.PTR else []
            return wire.answer(query, wire.NOERROR, records, limit)
        if all(network.internal() for network in networks):
            return wire.answer(query, wire.NXDOMAIN, [], limit)
        if not self._upstreams.get():
            code = wire.SERVFAIL if "." in query.name else wire.NXDOMAIN
            return wire.answer(query, code, [], limit)
        return None

    def _ask(self, pending: Pending) -> None:
        """Ask the next resolver; after the last round the client is told that it failed."""
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
            self._watch(one.fileno(), self._from_upstream)
            return
        failed = wire.answer(pending.query, wire.SERVFAIL, [], pending.query.limit)
        _send(pending.reply, failed, pending.client)

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
        _send(pending.reply, data, pending.client)

    def _drop(self, pending: Pending) -> None:
        if pending.upstream is not None:
            self._unwatch(pending.upstream.fileno())
            del self._pending[pending.upstream.fileno()]
            pending.upstream.close()
            pending.upstream = None

    def _retry_late(self) -> None:
        now = time.monotonic()
        for pending in [p for p in self._pending.values() if p.deadline <= now]:
            self._ask(pending)

    def _accept_client(self, one: socket.socket, registration: Registration) -> None:
        try:
            client, _ = one.accept()
        except OSError:
            return
        if self._threads >= TCP_LIMIT:
            client.close()
            return
        self._threads += 1
        start_new_thread(self._serve_tcp, (client, registration))

    def _serve_tcp(self, client: socket.socket, registration: Registration) -> None:
        """One client's connection, in a thread: questions one after the other."""
        try:
            with client:
                client.settimeout(TCP_SECONDS)
                while data := _receive(client):
                    query = wire.parse(data)
                    if query is None:
                        return
                    found = self._answer(query, registration, 65535)
                    if found is None:
                        found = self._ask_tcp(data)
                    if found is None:
                        found = wire.answer(query, wire.SERVFAIL, [], 65535)
                    client.sendall(struct.pack(">H", len(found)) + found)
        except OSError:
            pass
        finally:
            self._threads -= 1

    def _ask_tcp(self, data: bytes) -> bytes | None:
        for family, address in self._upstreams.get():
            try:
                with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as one:
                    one.settimeout(ATTEMPT_SECONDS * 2)
                    one.connect(address)
                    one.sendall(struct.pack(">H", len(data)) + data)
                    found = _receive(one)
            except OSError:
                continue
            if found and wire.response_code(found) not in (wire.SERVFAIL, wire.REFUSED):
                return found
        return None


def main(data_dir: str, run_dir: str) -> None:
    """Started by dns_client with the listening socket as standard input."""
    # Whatever the monitor that started it had blocked or limited is not this process's.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.chdir("/")
    listener = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    Server(data_dir, run_dir, listener).run()


def _lookup(name: str, networks: list[Network]) -> list[str]:
    """Addresses of `name` in all networks, or of `name.network` in that one."""
    found: list[str] = []
    for network in networks:
        found.extend(network.addresses(name))
        suffix = f".{network.name.lower()}"
        if name.endswith(suffix):
            found.extend(network.addresses(name[: -len(suffix)]))
    return sorted(set(found))


def _reverse(address: str, networks: list[Network]) -> str:
    if address:
        for network in networks:
            owner = network.owner(address)
            if owner:
                return f"{owner}.{network.name}"
    return ""


def _send(one: socket.socket, data: bytes, client: Any) -> None:
    """Send an answer; a client or container that has gone in between is nobody's failure."""
    try:
        one.sendto(data, client)
    except OSError:
        pass


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _receive(one: socket.socket) -> bytes:
    """One length-prefixed message, empty at the end of the stream."""
    head = _exactly(one, 2)
    return _exactly(one, struct.unpack(">H", head)[0]) if len(head) == 2 else b""


def _exactly(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = one.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def _ints(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f"={len(raw) // 4}i", raw[: len(raw) // 4 * 4])
