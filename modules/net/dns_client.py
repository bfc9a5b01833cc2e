"""Runs on the managed host, in each container's monitor: hands the container's sockets to the DNS process.

The connection is the sign of life: when it closes, the process is gone, and `restore` brings back another one.
Whoever comes first starts it, the others find it. Imports nothing that a monitor does not have anyway.
"""

from __future__ import annotations

import _socket as socket
import fcntl
import os
import struct
import sys
import time

from ..agent.paths import Paths
from ..contract import plainjson

BACKLOG = 4096
SEND_SECONDS = 5
QUICK_LOSS_SECONDS = 1.0


class Hand:
    """A monitor's hold on the DNS process.

    Poll `fileno()` for reading: it becomes readable (end of stream) when the process is gone; then call
    `restore()`, after which `fileno()` is another number.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._connection: socket.socket | None = None
        self._message = b""
        self._sockets: list[socket.socket] = []
        self._since = 0.0
        self._quick_losses = 0

    def fileno(self) -> int:
        """The connection to watch, -1 before `register`."""
        return self._connection.fileno() if self._connection is not None else -1

    def register(
        self, container: str, networks: list[str], sockets: list[socket.socket], pid: int = 0
    ) -> None:
        """Hand over the container's sockets; they stay open here too, and are ours to close.

        Args:
            networks: names of the networks whose containers it may find.
            pid: the container's first process: with it, names go on working if this monitor is killed.
        Raises:
            OSError: the process could not be started.
        """
        message = {"container": container, "networks": networks, "pid": pid}
        self._message = plainjson.dumps(message).encode()
        self._sockets = sockets
        self._hand_over()

    def restore(self) -> None:
        """The connection closed: find or start the next process, and hand over again.

        Returns at once but for a process that keeps dying young, which is given up to a second's pause.
        """
        if time.monotonic() - self._since < QUICK_LOSS_SECONDS:
            self._quick_losses = min(self._quick_losses + 1, 10)
            if self._quick_losses > 1:
                time.sleep(min(0.02 * 2**self._quick_losses, 1.0))
        else:
            self._quick_losses = 0
        try:
            self._hand_over()
        except OSError:
            # One end of a pair whose other end is closed asks to be restored again.
            self._connection, other = socket.socketpair()
            other.close()
            self._since = time.monotonic()

    def close(self) -> None:
        """Let go: the container has ended."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for one in self._sockets:
            one.close()
        self._sockets = []

    def _hand_over(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        fds = struct.pack(f"={len(self._sockets)}i", *(s.fileno() for s in self._sockets))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        for attempt in range(3):
            connection = _connect(self._paths)
            try:
                connection.sendmsg([self._message], rights)
            except OSError:
                # It was just being killed.
                connection.close()
                if attempt == 2:
                    raise
                continue
            self._connection = connection
            self._since = time.monotonic()
            return


def _connect(paths: Paths) -> socket.socket:
    """A connection to the DNS process, which is started if there is none."""
    where = os.path.join(paths.run, "dns.sock")
    found = _try(where)
    if found is not None:
        return found
    with open(os.path.join(paths.run, "dns.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _try(where)
        if found is not None:
            return found
        try:
            os.unlink(where)
        except FileNotFoundError:
            pass
        # The one who starts it listens for it: what is sent before it runs waits in the socket.
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            listener.bind(where)
            listener.listen(BACKLOG)
            _start(paths, listener.fileno())
            found = _try(where)
        finally:
            listener.close()
    if found is None:
        raise OSError(f"cannot reach the DNS process at {where}")
    return found


def _try(where: str) -> socket.socket | None:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    # Of the kernel, not of Python: a full backlog must be waited for, and Python's would not.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))
    try:
        one.connect(where)
    except (FileNotFoundError, ConnectionRefusedError):
        one.close()
        return None
    except BaseException:
        one.close()
        raise
    return one


def _start(paths: Paths, listener: int) -> None:
    """Start the process by exec, in a session of its own, with the listener as its standard input.

    Forked twice, so that it is init's child and not one that the monitor would have to wait for.
    """
    package = __name__.partition(".")[0]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.insert(0, sys.argv[1]); from {package}.net.dns import main; main(*sys.argv[2:])"
    argv = [sys.executable, "-I", "-S", "-c", code, root, paths.data, paths.run]
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open("/dev/null", os.O_RDWR)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
        # Stays empty unless the process fails; then it says why.
        log = os.open(os.path.join(paths.run, "dns.log"), flags, 0o600)
        os.dup2(listener, 0)
        os.dup2(null, 1)
        os.dup2(log, 2)
        os.execve(argv[0], argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"})
    finally:
        os._exit(127)
