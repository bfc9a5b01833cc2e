"""Runs on the managed host, in the agent: carries a container's output and input between it and the channel."""

from __future__ import annotations

import os
import queue
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from ..contract.errors import HostctlError
from ..runtime import join
from . import apart, attached, client, files
from .state import RUNNING, State

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Paths

_END_SECONDS = 10.0
_READ_SECONDS = 0.5
_GLANCE = 200
"""Milliseconds between two looks whether input that nobody reads is still wanted."""
_LOST = (
    b"\nhostctl: output is missing here: it came faster than it could be sent; see hostctl logs\n"
)


def run(paths: Paths, name: str, now: State, args: dict[str, Any], channel: Channel) -> int:
    """Until it ends: its exit code. First a row says whether it has a terminal, and takes input.

    Args:
        args: `stdin`: whether to send input.
    """
    settings = files.settings(paths, name)
    taking = settings.stdin_open and bool(args.get("stdin", True))
    peer, source = connect(paths, name)
    desk = _Desk(paths, name, peer, source, settings.tty, taking)
    desk.listen(channel)
    # Who detaches ends the connection.
    channel.on_gone(lambda: _hang_up(peer))
    channel.send("row", data={"tty": settings.tty, "stdin": taking and source >= 0})
    threading.Thread(target=desk.serve, daemon=True).start()
    try:
        _output(peer, channel)
    finally:
        desk.close()
    return 0 if channel.gone or desk.detached else _exit_code(paths, name, now)


def connect(paths: Paths, name: str) -> tuple[socket.socket, int]:
    """A connection to the container's monitor (see `attached`), and where the container reads from or -1.

    Raises:
        HostctlError: there is no monitor, or it is of a version that cannot do this.
    """
    number = os.getpid()
    try:
        listener = attached.listen(paths.container_run(name), number)
    except FileNotFoundError:
        raise client.no_monitor("attach to", name) from None
    try:
        answer = client.ask(
            paths, name, {"verb": "attach", "number": number}, client.ANSWER_SECONDS
        )
        if answer is None:
            raise client.no_monitor("attach to", name)
        peer, source = attached.take(listener, client.ANSWER_SECONDS)
        return socket.socket(fileno=peer.detach()), source
    except attached.TooMany as error:
        raise HostctlError(
            f"cannot attach to {name}: {len(apart.TAPS)} are attached already, and that is the most",
            hint=f"detach one of them, or read along with `hostctl logs -f {name}`",
            ref="too-many-attached",
        ) from error
    except TimeoutError as error:
        raise HostctlError(
            f"cannot attach to {name}: its monitor does not connect",
            hint=f"at most {len(apart.TAPS)} can be attached at once",
            ref="monitor-silent",
        ) from error
    except HostctlError as error:
        if error.ref == "unknown-verb":
            raise HostctlError(
                f"cannot attach to {name}: its monitor is of an older hostctl",
                hint=f"start it anew with `hostctl restart {name}`; `hostctl logs -f {name}` shows what it says",
                ref="monitor-version",
            ) from error
        raise
    finally:
        listener.close()
        os.unlink(os.path.join(paths.container_run(name), attached.name(number)))


def _hang_up(peer: socket.socket) -> None:
    try:
        peer.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the container was faster


def _output(peer: socket.socket, channel: Channel) -> None:
    while True:
        try:
            packet = peer.recv(attached.PACKET)
        except ConnectionError:
            return
        if not packet:
            return
        if packet[0] & apart.LATE:
            channel.send("data", _LOST, stream="stderr")
        stream = "stdout" if packet[0] & ~apart.LATE == apart.OUTPUT else "stderr"
        channel.send("data", packet[1:], stream=stream)


def _exit_code(paths: Paths, name: str, before: State) -> int:
    """What the monitor writes down once the output has ended."""
    deadline = time.monotonic() + _END_SECONDS
    while time.monotonic() < deadline:
        now = client.status(paths, name)
        if now.pid != before.pid or now.start_time != before.start_time:
            if now.exit_code is not None:
                return now.exit_code
            raise HostctlError(f"cannot tell how {name} ended: {now.ending}", ref="exit-code-lost")
        if now.status == RUNNING and not now.watched:
            raise HostctlError(
                f"cannot stay attached to {name}: its monitor was killed, the container runs on",
                hint="run hostctl apply, which gives it another, and attach again",
                ref="no-monitor",
            )
        time.sleep(0.005)
    raise HostctlError(
        f"cannot stay attached to {name}: its monitor has closed the connection",
        hint="attach again",
        ref="detached",
    )


class _Desk:
    """What comes from the controller. Only input waits for the container to read it."""

    def __init__(
        self,
        paths: Paths,
        name: str,
        peer: socket.socket,
        source: int,
        tty: bool,
        taking: bool,
    ) -> None:
        self._paths = paths
        self._name = name
        self._peer = peer
        self._source = source
        self._tty = tty
        self._taking = taking
        self._input: queue.Queue[bytes] = queue.Queue()
        self._closed = False
        self.detached = False

    def listen(self, channel: Channel) -> None:
        """Before the controller is told that it is attached: each frame has its own way from here on."""
        for kind in ("stdin", "resize", "signal", "detach"):
            channel.on(kind, getattr(self, kind))

    def serve(self) -> None:
        """A thread: pass the input on, until `close`."""
        while True:
            data = self._input.get()
            if self._closed:
                return
            try:
                self._write(data)
            except OSError:
                pass  # it has just ended, or closed its input: what it says is the answer
            self._input.task_done()

    def close(self) -> None:
        """What has not been read by now never will be."""
        self._closed = True
        self._input.put(b"")

    def stdin(self, _header: dict[str, Any], body: bytes) -> None:
        if self._taking and self._source >= 0:
            self._input.put(body)

    def resize(self, header: dict[str, Any], _body: bytes) -> None:
        if not self._tty:
            return
        try:
            join.resize(self._source, int(header["rows"]), int(header["columns"]))
        except OSError:
            return  # it has just ended

    def detach(self, _header: dict[str, Any], _body: bytes) -> None:
        """What was typed before is the container's, if it reads."""
        self.detached = True
        deadline = time.monotonic() + _READ_SECONDS
        while self._input.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)
        _hang_up(self._peer)

    def signal(self, header: dict[str, Any], _body: bytes) -> None:
        try:
            client.kill(self._paths, self._name, int(header["number"]))
        except (OSError, HostctlError):
            return  # it has just ended

    def _write(self, data: bytes) -> None:
        """The descriptor does not block: it is the monitor's, too."""
        poll = select.poll()
        poll.register(self._source, select.POLLOUT)
        while data and not self._closed:
            if not poll.poll(_GLANCE):
                continue
            try:
                data = data[os.write(self._source, data) :]
            except BlockingIOError:
                time.sleep(0.001)
