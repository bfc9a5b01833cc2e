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
from .dns_forward import Forwarder, Loop, receive_message, send, send_message, shuffled
from .dns_names import Network, Upstreams
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Importing typing at run time would be a seventh of the process's memory.
    from typing import Any

IDLE_SECONDS = 10.0
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


class Server:
    """The loop. UDP is answered in it; each TCP connection, which is rare, has a thread."""

    def __init__(self, data_dir: str, run_dir: str, listener: socket.socket) -> None:
        self._data_dir = data_dir
        self._run_dir = run_dir
        self._listener = listener
        self._loop = Loop()
        self._networks: dict[str, Network] = {}
        self._upstreams = Upstreams()
        self._forwarder = Forwarder(self._loop, self._upstreams)
        self._registrations: dict[str, Registration] = {}
        self._monitors: dict[int, tuple[socket.socket, str]] = {}
        self._threads = 0
        self._idle_since = time.monotonic()
        # Of this process because it is wherever a port can be published.
        self._firewall = Watch(self._loop, data_dir, run_dir)

    def run(self) -> None:
        """Serve until there has been nothing to serve for a while."""
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), self._accept)
        while True:
            timeouts = (self._forwarder.timeout(), self._firewall.timeout())
            self._loop.turn(min((t for t in timeouts if t is not None), default=IDLE_SECONDS / 2))
            self._forwarder.retry_late()
            self._firewall.act()
            if self._registrations or self._monitors:
                self._idle_since = time.monotonic()
            elif time.monotonic() - self._idle_since > IDLE_SECONDS and self._leave():
                return

    def _leave(self) -> bool:
        """Take the socket's name away, unless a monitor is just about to use it."""
        try:
            with open(os.path.join(self._run_dir, "dns.lock"), "w", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_readable(self._listener.fileno()):
                    return False
                for name in ("dns.sock", "dns.log"):
                    os.unlink(os.path.join(self._run_dir, name))
        except BlockingIOError:
            return False
        except FileNotFoundError:
            # Someone has cleared the run folder: nobody can find this process any more.
            pass
        return True

    def _accept(self, _: int) -> None:
        try:
            monitor, _address = self._listener.accept()
        except OSError:
            return
        monitor.setblocking(False)
        self._monitors[monitor.fileno()] = (monitor, "")
        self._loop.watch(monitor.fileno(), self._from_monitor)

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
        self._loop.unwatch(fd)
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
        self._loop.watch(one.fileno(), lambda _: handler(one, registration))

    def _follow(self, registration: Registration, pid: int) -> None:
        """Keep the sockets until the container's first process ends, whatever happens to its monitor."""
        try:
            registration.pidfd = os.pidfd_open(pid)
        except OSError:
            return
        self._loop.watch(registration.pidfd, lambda fd: self._container_ended(fd, registration))

    def _container_ended(self, fd: int, registration: Registration) -> None:
        # Checked, because an event can be of an older descriptor of the same number.
        if registration.pidfd == fd and _is_readable(fd):
            self._forget(registration)

    def _forget(self, registration: Registration) -> None:
        for one in registration.sockets:
            if one.type == socket.SOCK_DGRAM:
                self._from_client(one, registration)
            self._loop.unwatch(one.fileno())
        if registration.pidfd >= 0:
            self._loop.unwatch(registration.pidfd)
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
                send(one, known, client)
            else:
                self._forwarder.forward(data, query, one, client)

    def _answer(self, query: wire.Query, registration: Registration, limit: int) -> bytes | None:
        """The answer from the container's networks, or None where the host's resolvers must be asked."""
        networks = registration.networks
        addresses = _lookup(query.name, networks)
        if addresses:
            wanted = query.type in (wire.A, wire.ANY)
            records = [(wire.A, socket.inet_aton(a)) for a in shuffled(addresses)] if wanted else []
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
                while data := receive_message(client):
                    query = wire.parse(data)
                    if query is None:
                        return
                    found = self._answer(query, registration, 65535)
                    if found is None:
                        found = self._forwarder.ask_tcp(data)
                    if found is None:
                        found = wire.answer(query, wire.SERVFAIL, [], 65535)
                    send_message(client, found)
        except OSError:
            pass
        finally:
            self._threads -= 1


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


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _ints(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f"={len(raw) // 4}i", raw[: len(raw) // 4 * 4])
