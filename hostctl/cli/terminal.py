"""Runs on the controller: the operator's terminal in raw mode, and stdin as a stream of bytes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes to the other side, Ctrl-C too; the terminal is as before in the end."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def on_resize(tell: Callable[[int, int], None]) -> Iterator[None]:
    """Call `tell(rows, columns)` now and whenever the window changes."""

    def changed(*_: object) -> None:
        size = shutil.get_terminal_size()
        tell(size.lines, size.columns)

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        changed()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def pump_stdin(write: Callable[[bytes], None], end: Callable[[], None]) -> None:
    """Send stdin on, from a thread that does not keep the program alive."""

    def pump() -> None:
        while data := os.read(sys.stdin.fileno(), 1 << 16):
            write(data)
        end()

    threading.Thread(target=pump, name="stdin", daemon=True).start()
