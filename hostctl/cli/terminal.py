"""Runs on the controller: the operator's terminal in raw mode, its signals, and stdin as a stream of bytes."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hostctl_host.contract.errors import HostctlError

DETACH_KEYS = "ctrl-p,ctrl-q"
_CONTROLS = "@abcdefghijklmnopqrstuvwxyz[\\]^_"
# What ends this process only when its terminal is as it was before.
_ENDING = (signal.SIGTERM, signal.SIGHUP)
# Those that are about this process and not about the program (docker attach).
_OWN = {"SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGTSTP", "SIGTTIN"}
_OWN |= {"SIGTTOU", "SIGCONT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP"}
PROXIED = tuple(
    int(number)
    for number in sorted(signal.Signals)
    if number.name not in _OWN and not number.name.startswith("SIGRT")
)


@contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes to the other side, Ctrl-C too; the terminal is as before in the end."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _leave) for number in _ENDING}
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def window_size() -> tuple[int, int]:
    """Rows and columns of the operator's terminal."""
    size = shutil.get_terminal_size()
    return size.lines, size.columns


@contextmanager
def on_resize(tell: Callable[[int, int], None]) -> Iterator[None]:
    """Call `tell(rows, columns)` now and whenever the window changes."""
    tell(*window_size())
    with on_signals((signal.SIGWINCH,), lambda _: tell(*window_size())):
        yield


@contextmanager
def on_signals(numbers: tuple[int, ...], tell: Callable[[int], None]) -> Iterator[None]:
    """Call `tell(number)` for each of these signals that comes.

    From a thread: a handler may find this one in the middle of sending something.
    """
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()

    def pump() -> None:
        while number := arrived.get():
            tell(number)

    threading.Thread(target=pump, name="signals", daemon=True).start()
    before = {
        number: signal.signal(number, lambda came, _: arrived.put(came)) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        arrived.put(0)


class Keys:
    """A sequence of keys in a stream of bytes: `ctrl-p,ctrl-q`, letters or `ctrl-` with a letter or one of @[\\]^_.

    Raises:
        HostctlError: it is none.
    """

    def __init__(self, text: str) -> None:
        self._keys = b"".join(_key(word, text) for word in text.split(",")) if text else b""
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What of it is input, and whether the keys were pressed. A beginning of them is held back."""
        out = bytearray()
        for byte in data:
            if self._keys and byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._seen]
            self._seen = 1 if self._seen and byte == self._keys[0] else 0
            if not self._seen:
                out.append(byte)
        return bytes(out), False


def _key(word: str, text: str) -> bytes:
    control = re.fullmatch(r"ctrl-(.)", word)
    if control and control[1] in _CONTROLS:
        return bytes((_CONTROLS.index(control[1]),))
    if len(word) == 1 and word.isascii():
        return word.encode()
    raise HostctlError(
        f"cannot use {text!r} as keys to detach: {word!r} is no key",
        hint="write them like ctrl-p,ctrl-q",
        ref="bad-detach-keys",
    )


def pump_stdin(
    write: Callable[[bytes], None],
    end: Callable[[], None],
    keys: Keys | None = None,
    detach: Callable[[], None] | None = None,
) -> None:
    """Send stdin on, from a thread that does not keep the program alive; until the keys, if there are any."""

    def pump() -> None:
        while data := os.read(sys.stdin.fileno(), 1 << 16):
            pressed = False
            if keys:
                data, pressed = keys.feed(data)
            if data:
                write(data)
            if pressed and detach:
                detach()
                return
        end()

    threading.Thread(target=pump, name="stdin", daemon=True).start()
