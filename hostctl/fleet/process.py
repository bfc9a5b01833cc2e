"""Runs on the controller: the one door to other programs on this machine (the only subprocess import)."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .stream import KEEP

if TYPE_CHECKING:
    import socket


class ProcessStream:
    """A local program as a `Stream`. It runs in its own session, so Ctrl-C reaches only hostctl.

    Args:
        umask: -1 for hostctl's own.
    """

    def __init__(self, argv: list[str], umask: int = -1) -> None:
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            umask=umask,
        )
        self._chunks: queue.Queue[bytes] = queue.Queue()
        self._errors = bytearray()
        self._ended = False
        self._readers = [
            threading.Thread(target=self._pump_stdout, daemon=True),
            threading.Thread(target=self._pump_stderr, daemon=True),
        ]
        for thread in self._readers:
            thread.start()

    def _pump_stdout(self) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        with contextlib.suppress(OSError):
            while data := os.read(descriptor, 1 << 18):
                self._chunks.put(data)
        self._chunks.put(b"")

    def _pump_stderr(self) -> None:
        assert self._process.stderr is not None
        descriptor = self._process.stderr.fileno()
        with contextlib.suppress(OSError):
            while data := os.read(descriptor, 1 << 16):
                self._errors += data
                del self._errors[:-KEEP]

    def read(self, timeout: float) -> bytes:
        if self._ended:
            return b""
        try:
            data = self._chunks.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        self._ended = not data
        return data

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise ConnectionError(f"the program has ended: {error}") from error

    def errors(self) -> bytes:
        if self._ended:
            self._readers[1].join(1)
        return bytes(self._errors)

    def end(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def exit_code(self, timeout: float) -> int | None:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        self.end()
        if self.exit_code(2) is None:
            with contextlib.suppress(PermissionError):  # sudo: it ends with its stdin
                self._process.terminate()
                if self.exit_code(2) is None:
                    self._process.kill()
                    self.exit_code(1)
        self._chunks.put(b"")


@dataclass(frozen=True)
class Done:
    """A program's end: its exit code (negative: the signal), and what it printed, decoded leniently."""

    code: int
    output: str
    errors: str


def run(argv: list[str], timeout: float, given: bytes = b"") -> Done:
    """Run a program of the user's own to its end. With it goes all that it has started.

    Args:
        timeout: seconds.
        given: its input.
    Raises:
        TimeoutError: it took longer, and was killed.
        OSError: it cannot be started.
    """
    program = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE if given else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = program.communicate(given or None, timeout=max(timeout, 0.1))
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        for pipe in (program.stdout, program.stderr):
            if pipe is not None:
                pipe.close()
        if isinstance(error, subprocess.TimeoutExpired):
            raise TimeoutError from error
        raise
    return Done(
        program.returncode, output.decode(errors="replace"), errors.decode(errors="replace")
    )


def succeeds(command: str, timeout: float = 10) -> bool:
    """Whether a shell command of the user's own SSH configuration (`Match exec`) ends with 0."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode == 0


_proxies: list[subprocess.Popen[bytes]] = []


def proxy_socket(command: str) -> socket.socket:
    """A socket whose other end is stdin and stdout of a `ProxyCommand`, which ends with the socket."""
    import socket

    ours, theirs = socket.socketpair()
    _proxies[:] = [proxy for proxy in _proxies if proxy.poll() is None]
    with theirs:
        proxy = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    _proxies.append(proxy)
    return ours
