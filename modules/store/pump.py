"""Runs on the managed host: a bounded pipe between two threads: one fetches, the other consumes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

_QUEUED = 8


class Pump:
    """Iterates in a thread of its own over `chunks` and hands them on, a few ahead of the reader.

    What the source raises is raised in the reader. `drain` reads the rest without handing it on,
    `stop` ends the thread at the next chunk; one of them must be called.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._queue: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = self._discard = self._stop = False
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._queue and not self._ended:
                    self._changed.wait()
                if not self._queue:
                    if self._error is not None:
                        raise self._error
                    return
                chunk = self._queue.popleft()
                self._changed.notify_all()
            yield chunk

    def drain(self) -> None:
        """Let the source come to its end; raises what it raised."""
        with self._changed:
            self._discard = True
            self._queue.clear()
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                with self._changed:
                    while len(self._queue) >= _QUEUED and not (self._discard or self._stop):
                        self._changed.wait()
                    if self._stop:
                        break
                    if not self._discard:
                        self._queue.append(chunk)
                        self._changed.notify_all()
        except BaseException as error:  # handed to the reader
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
