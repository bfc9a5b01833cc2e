"""Runs on the controller: the SSH agent that a build's steps speak with: the operator's own, or key files.

Only what uses keys is let through: listing them, signing, and binding a connection to its session; nothing that adds,
removes or locks any. Source: draft-ietf-sshm-ssh-agent; what the names mean is BuildKit's.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from typing import Any

from hostctl_host.contract.errors import HostctlError

FAILURE = b"\x05"
_LIST, _KEYS, _SIGN, _SIGNED, _EXTENSION = 11, 12, 13, 14, 27
_RSA_SHA256, _RSA_SHA512 = 2, 4
_LONGEST = 256 << 10
_SECONDS = 60.0
"""A key that is in hardware may wait to be touched."""
_BIND = b"session-bind@openssh.com"


def paths(sources: tuple[str, ...]) -> tuple[str, ...]:
    """The socket, or the key files: nothing is the agent of the environment."""
    if not sources:
        return (os.environ.get("SSH_AUTH_SOCK", ""),)
    return tuple(os.path.expanduser(source) for source in sources)


def check(name: str, sources: tuple[str, ...]) -> None:
    """Raise HostctlError for what cannot be used, before a host is touched."""
    found = paths(sources)
    if found == ("",):
        raise HostctlError(
            f"cannot lend the SSH agent {name}: SSH_AUTH_SOCK is not set, so there is none here",
            hint=f"start one (eval $(ssh-agent); ssh-add), or name a key: {name}=KEY_FILE",
            ref="build-ssh",
        )
    for path in found:
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError as error:
            raise HostctlError(
                f"cannot lend the SSH agent {name}: {path}: {(error.strerror or '').lower()}",
                hint=f"write {name}=SOCKET or {name}=KEY_FILE",
                ref="build-ssh",
            ) from error
        if is_socket and len(found) > 1:
            raise HostctlError(
                f"cannot lend the SSH agent {name}: {path} is a socket, and stands beside others",
                hint="one id is one socket, or any number of key files",
                ref="build-ssh",
            )
        if not is_socket:
            load(path)


def load(path: str) -> Any:
    """The private key of a file. Raises HostctlError: it is none, or has a passphrase."""
    from ..fleet.ssh import private_key

    return private_key(path)


class Agent:
    """One id's agent. Connections are told apart, as what binds one says nothing about another."""

    def __init__(self, sources: tuple[str, ...]) -> None:
        found = paths(sources)
        self._socket = found[0] if stat.S_ISSOCK(os.stat(found[0]).st_mode) else ""
        self._keys = [] if self._socket else [(load(path), path) for path in found]
        self._connections: dict[Any, socket.socket] = {}
        self._lock = threading.Lock()

    def ask(self, connection: Any, message: bytes) -> bytes:
        """The answer to one message, both without their length; an empty one ends the connection."""
        if not message:
            self._close(connection)
            return b""
        bind = message[5 : 5 + len(_BIND)] == _BIND
        if message[0] not in (_LIST, _SIGN) and not (message[0] == _EXTENSION and bind):
            return FAILURE
        if self._socket:
            return self._forwarded(connection, message)
        if message[0] == _LIST:
            listed = [_text(key.asbytes()) + _text(path.encode()) for key, path in self._keys]
            return bytes([_KEYS]) + struct.pack(">I", len(listed)) + b"".join(listed)
        return self._signed(message) if message[0] == _SIGN else FAILURE

    def _signed(self, message: bytes) -> bytes:
        try:
            blob, rest = _split(message[1:])
            data, rest = _split(rest)
            (flags,) = struct.unpack(">I", rest[:4])
        except struct.error:
            return FAILURE
        for key, _ in self._keys:
            if key.asbytes() == blob:
                algorithm = None
                if key.get_name() == "ssh-rsa" and flags & (_RSA_SHA256 | _RSA_SHA512):
                    algorithm = "rsa-sha2-512" if flags & _RSA_SHA512 else "rsa-sha2-256"
                return bytes([_SIGNED]) + _text(key.sign_ssh_data(data, algorithm).asbytes())
        return FAILURE

    def _forwarded(self, connection: Any, message: bytes) -> bytes:
        with self._lock:
            one = self._connections.get(connection)
        try:
            if one is None:
                one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                one.settimeout(_SECONDS)
                one.connect(self._socket)
                with self._lock:
                    self._connections[connection] = one
            one.sendall(_text(message))
            (size,) = struct.unpack(">I", _exactly(one, 4))
            if not 0 < size <= _LONGEST:
                raise OSError("it is too long")
            return _exactly(one, size)
        except OSError:
            if one is not None:
                one.close()
            self._close(connection)
            return FAILURE

    def _close(self, connection: Any) -> None:
        with self._lock:
            one = self._connections.pop(connection, None)
        if one is not None:
            one.close()


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _split(data: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack(">I", data[:4])
    return data[4 : 4 + size], data[4 + size :]


def _exactly(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = one.recv(size - len(data))
        if not piece:
            raise OSError("the agent hung up")
        data += piece
    return data
