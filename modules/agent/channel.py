"""Runs on the managed host: the frames to and from the controller, over the agent's stdin and stdout.

Whatever else prints to stdout goes to stderr, so that a stray `print` cannot break the stream.
"""

from __future__ import annotations

import os
from typing import Any, Callable

from ..contract.frames import BrokenFrame, pack, read

HEARTBEAT = 5.0
_GATHER = 32 << 10

Frame = tuple[dict[str, Any], bytes]


class ControllerGone(Exception):
    """The controller's end of the stream is closed: nothing new is begun."""


class Channel:
    """One conversation. `send` may be called from any thread; `receive` from one.

    Threads exist only after `listen`: the seal of plan mode needs a single-threaded process.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._in = incoming
        self._out = outgoing
        self._gathered: list[bytes] = []
        self._size = 0
        self._handlers: dict[str, Callable[[dict[str, Any], bytes], None]] = {}
        self._on_gone: list[Callable[[], None]] = []
        self._inbox: list[Frame | None] = []
        self._lock: Any = None
        self._arrived: Any = None
        self._stopped: Any = None
        self.gone = False

    @classmethod
    def over_stdio(cls) -> Channel:
        """Take over descriptors 0 and 1; they become /dev/null and stderr for everybody else."""
        incoming, outgoing = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        return cls(incoming, outgoing)

    def fileno(self) -> int:
        """The descriptor that frames come in on (before `listen`, to see whether it was hung up)."""
        return self._in

    def listen(self) -> None:
        """Start to read frames and to send heartbeats, each in a thread of its own."""
        import threading

        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._stopped = threading.Event()
        for target in (self._read_frames, self._beat):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def on(self, kind: str, handler: Callable[[dict[str, Any], bytes], None]) -> None:
        """Give frames of this type to `handler` (in the reading thread) instead of to `receive`."""
        self._handlers[kind] = handler

    def on_gone(self, handler: Callable[[], None]) -> None:
        """Call this (in the reading thread) when the controller is gone."""
        self._on_gone.append(handler)

    def send(self, kind: str, body: bytes = b"", *, gather: bool = False, **fields: Any) -> None:
        """Send one frame. With `gather` it may wait for the next frame that does not.

        A closed stream is no error here: `gone` is set, and who begins something new looks at it.
        """
        frame = pack({"type": kind, **fields}, body)
        if self._lock is None:
            self._write(frame, gather)
            return
        with self._lock:
            self._write(frame, gather)

    def receive(self, timeout: float | None = None) -> Frame:
        """The next frame that no handler took.

        Raises:
            ControllerGone: the stream ended.
            TimeoutError: nothing came in time.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._inbox, timeout):
                raise TimeoutError
            frame = self._inbox[0]
            if frame is None:
                raise ControllerGone
            return self._inbox.pop(0)  # type: ignore[return-value]

    def has_arrived(self) -> bool:
        """Whether `receive` would return, or raise, at once."""
        with self._arrived:
            return bool(self._inbox)

    def stop_if_gone(self) -> None:
        """Raise ControllerGone if the controller hung up: called before each act."""
        if self.gone:
            raise ControllerGone

    def hung_up(self) -> bool:
        """Before `listen`: whether the other end is closed (frames may still wait to be read)."""
        import select

        poll = select.poll()
        poll.register(self._in, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Stop the heartbeat and write what was gathered."""
        if self._stopped is not None:
            self._stopped.set()
        if self._gathered:
            self._flush()

    def _write(self, frame: bytes, gather: bool) -> None:
        self._gathered.append(frame)
        self._size += len(frame)
        if not gather or self._size > _GATHER:
            self._flush()

    def _flush(self) -> None:
        data = memoryview(b"".join(self._gathered))
        self._gathered.clear()
        self._size = 0
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except OSError:
            self.gone = True

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT):
            self.send("heartbeat")

    def _read_frames(self) -> None:
        stream = os.fdopen(self._in, "rb", 1 << 16, closefd=False)

        def exactly(size: int) -> bytes:
            return stream.read(size)

        try:
            while True:
                frame = read(exactly)
                if frame is None:
                    break
                handler = self._handlers.get(frame[0]["type"])
                if handler is not None:
                    handler(*frame)
                else:
                    self._put(frame)
        except (BrokenFrame, OSError, ValueError):
            pass
        self.gone = True
        self._put(None)
        for notify in self._on_gone:
            notify()

    def _put(self, frame: Frame | None) -> None:
        with self._arrived:
            self._inbox.append(frame)
            self._arrived.notify_all()
