"""Runs on the controller: the one door to paramiko: SSH connections, logins and remote programs.

Start-up and latency decide the design: the library is imported on first use and without `invoke` and
`importlib.metadata` (more than half of its import time; only `Match exec` needs the one, only its own version
the other), sockets are read in large pieces with TCP_QUICKACK re-armed,
and a program's request is sent without waiting for the answer.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.later import Later

from . import process
from .channel import WRITE_SILENCE, SshStream
from .knownhosts import host_name
from .login import Passwords, cause, login
from .sshconfig import Hop, config_text
from .stream import Stream
from .target import Unreachable
from .unreached import Dropped, no_handshake, not_forwarded

if TYPE_CHECKING:
    from paramiko.transport import Transport

_import_lock = threading.Lock()
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)

# Cheap first: curve25519 costs a tenth of the post-quantum exchange; one AEAD pass beats cipher + MAC.
_KEX_FIRST = ("curve25519-sha256@libssh.org",)
_CIPHERS_FIRST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


@functools.cache
def _library() -> Any:
    """paramiko, quiet, and without what only its command runner needs."""
    with _import_lock:
        if "paramiko" in sys.modules:
            import paramiko
        else:
            with _instead({"invoke": None, "importlib.metadata": _Metadata("importlib.metadata")}):
                import paramiko
        import logging

        import paramiko.config

        paramiko.config.invoke = _MatchExec  # type: ignore[attr-defined]
        logger = logging.getLogger("paramiko")
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.CRITICAL + 1)
        return paramiko


def load() -> None:
    """Import the library now; else the first connection does."""
    _library()


def private_key(path: str) -> Any:
    """The private key of a file, without asking anybody. Raises HostctlError: it is none, or has a passphrase."""
    from .keys import read_plain

    return read_plain(path, _library())


@contextlib.contextmanager
def _instead(modules: dict[str, Any]) -> Iterator[None]:
    """While these stand in for modules of their names; None is a module that cannot be imported."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if sys.modules.get(name) is not modules[name]:
                continue  # somebody needed the real one meanwhile
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Metadata(Later):
    """Stands in for `importlib.metadata`, which costs as much as all of the inventory and playbook."""

    @staticmethod
    def version(name: str) -> str:
        """From the name of the folder that pip made; empty where there is none."""
        for folder in sys.path:
            for found in glob.iglob(os.path.join(folder, f"{name}-*.dist-info")):
                return os.path.basename(found)[len(name) + 1 : -len(".dist-info")]
        return ""


class _MatchExec:
    """Stands in for the one call that the configuration parser makes of `invoke`."""

    def __init__(self, ok: bool) -> None:
        self.ok = ok

    @classmethod
    def run(cls, command: str, **_: Any) -> _MatchExec:
        return cls(process.succeeds(command))


@functools.cache
def config_lookup(path: str | None = None) -> Any:
    """A function from a host alias to its options in the SSH configuration.

    Args:
        path: a file instead of the user's and the system's (`-F`).
    """
    text = config_text(path)
    lock = threading.Lock()
    try:
        config = _library().SSHConfig.from_text(text)
    except Exception as error:
        raise HostctlError(
            f"cannot read the SSH configuration: {error}",
            where=path or "~/.ssh/config",
            ref="bad-ssh-config",
        ) from error

    def lookup(alias: str) -> Mapping[str, Any]:
        with lock:
            return dict(config.lookup(alias))

    return lookup


class _Socket:
    """A socket (or a jump host's channel) for the transport: large reads, no delayed acknowledgements."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._view = memoryview(b"")
        self._is_tcp = isinstance(inner, socket.socket) and inner.family != socket.AF_UNIX
        self._closed = False
        self._sent = time.monotonic()
        if self._is_tcp:
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._quickack()

    def _quickack(self) -> None:
        if _QUICKACK is not None:
            self._inner.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def recv(self, size: int) -> bytes:
        if not self._view:
            data = self._inner.recv(max(size, 1 << 17))
            if self._is_tcp:
                self._quickack()
            if len(data) <= size:
                return bytes(data)
            self._view = memoryview(data)
        piece = bytes(self._view[:size])
        self._view = self._view[size:]
        return piece

    def send(self, data: bytes) -> int:
        try:
            sent = int(self._inner.send(data))
        except TimeoutError:
            # the transport would try again for ever, also where the host has vanished
            if time.monotonic() - self._sent > WRITE_SILENCE:
                raise ConnectionAbortedError("nothing could be sent") from None
            raise
        self._sent = time.monotonic()
        return sent

    def settimeout(self, timeout: float | None) -> None:
        self._inner.settimeout(timeout)

    def getpeername(self) -> Any:
        return self._inner.getpeername()

    def close(self) -> None:
        self._closed = True
        if isinstance(self._inner, socket.socket):
            with contextlib.suppress(OSError):
                self._inner.shutdown(socket.SHUT_RDWR)  # wakes the reading thread at once
        with contextlib.suppress(
            OSError, EOFError
        ):  # a channel says goodbye: its jump host may be gone
            self._inner.close()


@functools.cache
def _packetizer() -> type:
    """paramiko's packet layer with a deadline instead of a timer thread per connection."""
    base: Any = _library().transport.Packetizer

    class DeadlinePacketizer(base):  # type: ignore[misc]
        _deadline = 0.0

        def start_handshake(self, timeout: float) -> None:
            self._deadline = time.monotonic() + timeout

        def handshake_timed_out(self) -> bool:
            return bool(self._deadline) and time.monotonic() > self._deadline

        def complete_handshake(self) -> None:
            self._deadline = 0.0

    return DeadlinePacketizer


def connect(
    hop: Hop, passwords: Passwords, timeout: float, through: SshConnection | None = None
) -> SshConnection:
    """Log in to one hop.

    Args:
        timeout: seconds from the first packet to the accepted login.
        through: the jump host before it.
    Raises:
        Unreachable: with the host, the address and what to do.
    """
    deadline = time.monotonic() + timeout
    for attempt in range(3):
        try:
            transport = _handshake(hop, _open(hop, through, deadline), deadline)
            break
        except Dropped:
            # sshd drops logins at random beyond MaxStartups: many hosts at once may be one server
            if attempt == 2 or time.monotonic() > deadline - 1:
                raise
            time.sleep(0.1 + random.random() * 0.3)
    try:
        login(transport, hop, passwords, deadline, _library())
    except BaseException:
        transport.close()
        raise
    return SshConnection(hop, transport, timeout)


def _open(hop: Hop, through: SshConnection | None, deadline: float) -> Any:
    """A byte stream to the hop."""
    seconds = max(0.1, deadline - time.monotonic())
    if through is not None:
        try:
            return through.forward(hop.host, hop.port, seconds)
        except Exception as error:
            raise not_forwarded(hop, through.hop, error, seconds) from error
    if hop.proxy_command:
        return process.proxy_socket(hop.proxy_command)
    try:
        return socket.create_connection((hop.host, hop.port), seconds)
    except (socket.gaierror, UnicodeError) as error:  # the latter: no name that DNS could have
        why = getattr(error, "strerror", None) or "not a host name"
        raise Unreachable(
            f"cannot find {'jump host ' if hop.is_jump else ''}{hop.label}: {hop.host}: {why}",
            hint="check ProxyJump, or give it a HostName in ~/.ssh/config"
            if hop.is_jump
            else "set ansible_host to its address",
            ref="unreachable",
        ) from error
    except TimeoutError as error:
        raise Unreachable(
            f"cannot reach {hop.who}: no answer within {seconds:.0f} s",
            hint="is the host up and the port open? a longer limit: --timeout",
            ref="unreachable",
        ) from error
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise Unreachable(
            f"cannot reach {hop.who}: {words}",
            hint="is the host up and sshd running there? check "
            + ("ProxyJump" if hop.is_jump else "ansible_host and ansible_port"),
            ref="unreachable",
        ) from error


def _handshake(hop: Hop, raw: Any, deadline: float) -> Transport:
    """Exchange keys and verify the host."""
    library = _library()
    seconds = max(0.1, deadline - time.monotonic())
    transport: Transport = library.Transport(
        _Socket(raw),
        default_window_size=8 << 20,
        default_max_packet_size=1 << 17,
        packetizer_class=_packetizer(),
    )
    transport.daemon = True
    transport.banner_timeout = transport.handshake_timeout = seconds
    transport.auth_timeout = transport.channel_timeout = seconds
    name = hop.known_as or host_name(hop.host, hop.port)
    known_types = [entry.key_type for entry in hop.known.entries(name) if not entry.revoked]
    security = transport.get_security_options()
    security.kex = _first(security.kex, _KEX_FIRST)
    security.ciphers = _first(security.ciphers, _CIPHERS_FIRST)
    security.key_types = _first(
        security.key_types, [algorithm for kind in known_types for algorithm in _algorithms(kind)]
    )
    try:
        transport.start_client(timeout=seconds)
        if not transport.initial_kex_done:
            raise TimeoutError
        key = transport.get_remote_server_key()
        may_send_password = hop.known.verify(name, key.get_name(), key.asbytes(), hop.who, hop.way)
    except HostctlError:
        transport.close()
        raise
    except Exception as error:
        transport.close()
        raise no_handshake(hop, error, seconds, deadline) from error
    transport.may_send_password = may_send_password  # type: ignore[attr-defined]
    return transport


def _first(values: Any, wanted: Any) -> tuple[str, ...]:
    """The values, those that are wanted in front."""
    front = [value for value in wanted if value in values]
    return tuple(dict.fromkeys((*front, *values)))


def _algorithms(key_type: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)


class SshConnection:
    """A logged-in connection: runs programs there, or forwards to what lies behind it."""

    def __init__(self, hop: Hop, transport: Transport, timeout: float) -> None:
        self.hop = hop
        self._transport = transport
        self._timeout = timeout

    def run(self, command: str) -> Stream:
        library = _library()
        transport = self._transport
        try:
            channel = transport.open_session(timeout=self._timeout)
            request = library.Message()
            request.add_byte(library.common.cMSG_CHANNEL_REQUEST)
            request.add_int(channel.remote_chanid)
            request.add_string("exec")
            request.add_boolean(True)  # a refusal closes the channel
            request.add_string(command)
            transport._send_user_message(request)  # type: ignore[attr-defined]
        except Exception as error:
            raise Unreachable(
                f"cannot open a session on {self.hop.who}: {cause(error)}",
                hint="sshd may limit sessions (MaxSessions)",
                ref="session-refused",
            ) from error
        return SshStream(channel)

    def forward(self, host: str, port: int, timeout: float) -> Any:
        """A socket-like channel to an address as this server sees it."""
        return self._transport.open_channel(
            "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout
        )

    @property
    def alive(self) -> bool:
        return self._transport.is_active()

    def close(self) -> None:
        self._transport.close()
