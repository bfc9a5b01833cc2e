"""Runs on the managed host: what the controller lends to a RUN: values of secrets, and an SSH agent by a socket.

Neither stays: a value lies in memory of the step's processes, and of an agent only answers come here.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable

from ..agent.channel import ControllerGone
from ..agent.host import Host
from ..contract.errors import HostctlError

FAILURE = b"\x05"
_LONGEST = 256 << 10
Ask = Callable[[int, bytes], bytes]
"""A connection's number and a message (empty: it is closed) -> the agent's answer."""


@dataclass(frozen=True)
class Lender:
    """What one build may ask for.

    Attributes:
        secret: id -> value; None where nobody gave it.
        agent: id -> what asks it. Raises HostctlError: it cannot be used.
    """

    secret: Callable[[str], bytes | None] = lambda _: None
    agent: Callable[[str], Ask] = lambda _: lambda number, message: FAILURE  # noqa: ARG005


def lent(image: str, host: Host) -> Lender:
    """By questions to the controller.

    Args:
        image: the build that asks, by its name in a playbook; empty: that of the verb.
    """

    def secret(name: str) -> bytes | None:
        value = host.ask("build-secret", image=image, id=name).get("value")
        return None if value is None else base64.b64decode(value)

    def agent(name: str) -> Ask:
        def ask(number: int, message: bytes) -> bytes:
            fields: dict[str, Any] = {"image": image, "id": name, "connection": number}
            fields["message"] = base64.b64encode(message).decode()
            answer = host.ask("build-ssh", **fields)
            if answer.get("error"):
                raise HostctlError(answer["error"], hint=answer["hint"], ref="build-ssh")
            return base64.b64decode(answer.get("message", ""))

        ask(0, b"")  # what cannot be lent is said before the program runs
        return ask

    return Lender(secret, agent)


@contextmanager
def agent_socket(path: str, uid: int, gid: int, mode: int, ask: Ask) -> Iterator[None]:
    """While this lasts, an SSH agent answers at the socket.

    Args:
        path: a new file. It may be long: it is named by its folder's descriptor.
    """
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door = _Door(listener, ask)
    try:
        name = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
        before = os.umask(0o177)
        try:
            listener.bind(name)
        finally:
            os.umask(before)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        listener.listen(16)
        door.open()
        yield
    finally:
        door.close()
        os.close(folder)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


class _Door:
    """Takes connections, and speaks with each in a thread."""

    def __init__(self, listener: socket.socket, ask: Ask) -> None:
        self._listener = listener
        self._ask = ask
        self._lock = threading.Lock()
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False

    def open(self) -> None:
        thread = threading.Thread(target=self._take, name="ssh-agent", daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """End all of it; what was asked of the controller is waited for."""
        with self._lock:
            self._closed = True
            ends = [self._listener, *self._open.values()]
        for one in ends:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _take(self) -> None:
        number = 0
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    one.close()
                    return
                number += 1
                self._open[number] = one
                thread = threading.Thread(target=self._speak, args=(number, one), daemon=True)
                self._threads.append(thread)
            thread.start()

    def _speak(self, number: int, one: socket.socket) -> None:
        try:
            with one:
                while (message := _message(one)) is not None:
                    answer = self._ask(number, message) or FAILURE
                    one.sendall(struct.pack(">I", len(answer)) + answer)
            self._ask(number, b"")
        except (OSError, ControllerGone, HostctlError):
            pass
        finally:
            with self._lock:
                del self._open[number]


def _message(one: socket.socket) -> bytes | None:
    """The next message; None at the end, or where it is none."""
    head = _exactly(one, 4)
    if head is None:
        return None
    (size,) = struct.unpack(">I", head)
    return _exactly(one, size) if 0 < size <= _LONGEST else None


def _exactly(one: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        piece = one.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return data
