"""Runs on the controller: the one door to paramiko: SSH connections, logins and remote programs.

Start-up and latency decide the design: the library is imported on first use and without `invoke` (half of
its import time; only `Match exec` needs it), sockets are read in large pieces with TCP_QUICKACK re-armed,
and a program's request is sent without waiting for the answer.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.errors import HostctlError

from . import process
from .keys import Identity, identities
from .knownhosts import host_name
from .sshconfig import Hop, config_text
from .stream import KEEP, Stream
from .target import Unreachable

if TYPE_CHECKING:
    import paramiko
    from paramiko.transport import Transport

WRITE_SILENCE = 20.0  # seconds without room for a single byte

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
            missing = object()
            before: Any = sys.modules.get("invoke", missing)
            sys.modules["invoke"] = None  # type: ignore[assignment]
            try:
                import paramiko
            finally:
                if before is missing:
                    del sys.modules["invoke"]
                else:
                    sys.modules["invoke"] = before
        import logging

        import paramiko.config

        paramiko.config.invoke = _MatchExec  # type: ignore[attr-defined]
        logger = logging.getLogger("paramiko")
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.CRITICAL + 1)
        return paramiko


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
        return int(self._inner.send(data))

    def settimeout(self, timeout: float | None) -> None:
        self._inner.settimeout(timeout)

    def getpeername(self) -> Any:
        return self._inner.getpeername()

    def close(self) -> None:
        self._closed = True
        if isinstance(self._inner, socket.socket):
            with contextlib.suppress(OSError):
                self._inner.shutdown(socket.SHUT_RDWR)  # wakes the reading thread at once
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


def connect(hops: tuple[Hop, ...], passwords: Passwords, timeout: float) -> SshConnection:
    """Log in through all hops.

    Args:
        timeout: seconds for each hop, from the first packet to the accepted login.
    Raises:
        Unreachable: with the host, the address and what to do.
    """
    transports: list[Transport] = []
    try:
        for index, hop in enumerate(hops):
            deadline = time.monotonic() + timeout
            through = transports[-1] if transports else None
            is_last = index == len(hops) - 1
            transport = _handshake(hop, _open(hop, through, deadline), deadline)
            transports.append(transport)
            _login(
                transport, hop, passwords if is_last else Passwords(asker=passwords.asker), deadline
            )
    except BaseException:
        for transport in reversed(transports):
            transport.close()
        raise
    return SshConnection(hops[-1], transports, timeout)


class Passwords:
    """Where the password for the last hop comes from: the variable, or a question asked once."""

    def __init__(self, given: str = "", asker: Any = None) -> None:
        self._given = given
        self.asker = asker

    def get(self) -> str:
        return self._given or (self.asker.ssh() if self.asker else "")


def _open(hop: Hop, through: Transport | None, deadline: float) -> Any:
    """A byte stream to the hop."""
    seconds = max(0.1, deadline - time.monotonic())
    if through is not None:
        try:
            return through.open_channel(
                "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=seconds
            )
        except Exception as error:
            raise Unreachable(
                f"cannot reach {hop.label} at {hop.place} through the jump host: {_cause(error)}",
                hint="check ProxyJump and whether the jump host may forward (AllowTcpForwarding)",
                ref="unreachable",
            ) from error
    if hop.proxy_command:
        return process.proxy_socket(hop.proxy_command)
    try:
        return socket.create_connection((hop.host, hop.port), seconds)
    except socket.gaierror as error:
        raise Unreachable(
            f"cannot find {hop.label}: {hop.host}: {error.strerror}",
            hint="set ansible_host to its address",
            ref="unreachable",
        ) from error
    except TimeoutError as error:
        raise Unreachable(
            f"cannot reach {hop.label} at {hop.place}: no answer within {seconds:.0f} s",
            hint="is the host up and the port open? a longer limit: --timeout",
            ref="unreachable",
        ) from error
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise Unreachable(
            f"cannot reach {hop.label} at {hop.place}: {cause}",
            hint="is the host up and sshd running there? check ansible_host and ansible_port",
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
        may_send_password = hop.known.verify(
            name, key.get_name(), key.asbytes(), f"{hop.label} at {hop.place}"
        )
    except HostctlError:
        transport.close()
        raise
    except Exception as error:
        transport.close()
        raise _no_handshake(hop, error, seconds, deadline) from error
    transport.may_send_password = may_send_password  # type: ignore[attr-defined]
    return transport


def _no_handshake(hop: Hop, error: Exception, seconds: float, deadline: float) -> Unreachable:
    if time.monotonic() >= deadline - 0.2 or isinstance(error, TimeoutError):
        return Unreachable(
            f"cannot reach {hop.label} at {hop.place}: it accepts connections but no SSH server "
            f"answers within {seconds:.0f} s",
            hint="is that the port of sshd? a longer limit: --timeout",
            ref="unreachable",
        )
    return Unreachable(
        f"cannot talk SSH with {hop.label} at {hop.place}: {_cause(error)}",
        hint="is that the port of sshd? sshd may also be refusing new connections (MaxStartups)",
        ref="unreachable",
    )


def _first(values: Any, wanted: Any) -> tuple[str, ...]:
    """The values, those that are wanted in front."""
    front = [value for value in wanted if value in values]
    return tuple(dict.fromkeys((*front, *values)))


def _algorithms(key_type: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)


def _login(transport: Transport, hop: Hop, passwords: Passwords, deadline: float) -> None:
    """Try keys and the password in the order that costs the fewest refused attempts."""
    library = _library()
    tried: list[str] = []
    allowed: set[str] = set()
    password_refused = False

    def attempt(identity: Identity | None, password: str) -> bool:
        transport.auth_timeout = max(0.1, deadline - time.monotonic())
        try:
            if identity is not None:
                rest = transport.auth_publickey(hop.user, identity.load())
            else:
                rest = transport.auth_password(hop.user, password)
            allowed.clear()
            allowed.update(rest)
            return not rest
        except library.BadAuthenticationType as error:
            allowed.clear()
            allowed.update(error.allowed_types)
        except library.AuthenticationException as error:
            if not transport.is_active() or "timeout" in str(error).lower():
                raise
        return False

    try:
        for identity in _credentials(hop, passwords, transport):
            method = "password" if isinstance(identity, str) else "publickey"
            if allowed and not allowed & {method, "keyboard-interactive"} - (
                {"keyboard-interactive"} if method == "publickey" else set()
            ):
                continue
            if isinstance(identity, str):
                if attempt(None, identity):
                    return
                password_refused = True
            else:
                tried.append(identity.label)
                if attempt(identity, ""):
                    return
    except HostctlError:
        raise
    except Exception as error:
        if time.monotonic() >= deadline - 0.2:
            raise Unreachable(
                f"cannot log in to {hop.label} at {hop.place} as {hop.user}: no answer in time",
                hint="a longer limit: --timeout",
                ref="unreachable",
            ) from error
        if not tried and not password_refused:
            raise Unreachable(
                f"cannot log in to {hop.label} at {hop.place}: {_cause(error)}", ref="login-refused"
            ) from error
    if password_refused:
        raise Unreachable(
            f"cannot log in to {hop.label} at {hop.place} as {hop.user}: the password was refused",
            hint="check ansible_password and ansible_user, or ask for it with -k",
            ref="wrong-password",
        )
    keys = (
        f"none of the keys was accepted ({', '.join(tried)})" if tried else "there is no key to try"
    )
    raise Unreachable(
        f"cannot log in to {hop.label} at {hop.place} as {hop.user}: {keys}",
        hint=f"type: ssh-copy-id -p {hop.port} {hop.user}@{hop.host}, or set "
        "ansible_ssh_private_key_file, or ask for a password with -k",
        ref="login-refused",
    )


def _credentials(hop: Hop, passwords: Passwords, transport: Transport) -> Iterator[Identity | str]:
    """Named keys, then the password if there is one, then the agent's and the default keys."""
    explicit, others = identities(hop, passwords.asker, _library())
    yield from explicit
    password = passwords.get()
    if password:
        if not getattr(transport, "may_send_password", True):
            raise Unreachable(
                f"cannot send a password to {hop.label} at {hop.place}: its host key is wrong",
                hint="remove the old key with ssh-keygen -R, or log in with a key",
                ref="host-key-changed",
            )
        yield password
    yield from others()


class SshConnection:
    """A logged-in connection; it runs programs and ends with all jump hosts' connections."""

    def __init__(self, hop: Hop, transports: list[Transport], timeout: float) -> None:
        self.hop = hop
        self._transports = transports
        self._timeout = timeout

    def run(self, command: str) -> Stream:
        library = _library()
        transport = self._transports[-1]
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
                f"cannot open a session on {self.hop.label} at {self.hop.place}: {_cause(error)}",
                hint="sshd may limit sessions (MaxSessions)",
                ref="session-refused",
            ) from error
        return SshStream(channel)

    @property
    def alive(self) -> bool:
        return self._transports[-1].is_active()

    def close(self) -> None:
        for transport in reversed(self._transports):
            transport.close()


class SshStream:
    """A program on an SSH channel."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._errors = bytearray()
        channel.settimeout(1.0)

    def read(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while True:
            self._drain()  # both streams share one window: unread stderr would stop stdout
            try:
                self._channel.settimeout(min(1.0, max(0.001, deadline - time.monotonic())))
                data = self._channel.recv(1 << 18)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                continue
            if not data and not self._channel.eof_received:
                raise ConnectionError("the connection was closed")
            return bytes(data)

    def _drain(self) -> None:
        while self._channel.recv_stderr_ready():
            self._errors += self._channel.recv_stderr(1 << 16)
            del self._errors[:-KEEP]

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        deadline = time.monotonic() + WRITE_SILENCE
        while view:
            try:
                sent = self._channel.send(bytes(view[: 1 << 17]))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                continue
            except OSError as error:
                raise ConnectionError(str(error)) from error
            if sent == 0:
                raise ConnectionError("the program has ended")
            deadline = time.monotonic() + WRITE_SILENCE
            view = view[sent:]

    def errors(self) -> bytes:
        self._drain()
        return bytes(self._errors)

    def end(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def exit_code(self, timeout: float) -> int | None:
        if not self._channel.status_event.wait(timeout):
            return None
        code = self._channel.exit_status
        return code if code >= 0 else None

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()


def _cause(error: BaseException) -> str:
    text = str(getattr(error, "text", "") or error).strip().rstrip(".")
    if not text or isinstance(error, EOFError):
        return "the connection was closed"
    return text[0].lower() + text[1:] if not text[:2].isupper() else text
