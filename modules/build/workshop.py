"""Runs on the managed host, in the agent: the build's worker process, which is started when it is first needed."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from typing import Any, Callable

from ..contract.errors import HostctlError
from ..monitor.starter import root
from ..runtime import guard

_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from {package}.contract.later import later; "
    "later('inspect'); from {package}.build.worker import main; main()"
)
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
_PIECE = 1 << 16


class Failed(HostctlError):
    """A task failed; `code` is what its program exited with, or that of `docker run` where it did not run."""

    def __init__(self, message: str, hint: str, ref: str, code: int) -> None:
        super().__init__(message, hint=hint, ref=ref)
        self.code = code


class Workshop:
    """Does tasks in the worker; from any thread. `close` ends all that is being done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._pid = 0

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the worker unless it runs. Call it first in a thread that outlives the build."""
        with self._lock:
            if self._socket is not None:
                return
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            shielded = -1 if guard.protected() else guard.executable()
            package = __name__.partition(".")[0]
            argv = [sys.executable, "-I", "-S", "-c", _CODE.format(package=package), root()]
            self._pid = os.posix_spawn(
                "/proc/self/exe" if shielded < 0 else f"/proc/self/fd/{shielded}",
                argv,
                _ENVIRONMENT,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, 2, 1),
                ],
                setsigmask=(),
            )
            theirs.close()
            if shielded >= 0:
                os.close(shielded)
            self._socket = ours

    def do(
        self, task: str, output: Callable[[bytes], None] = lambda _: None, **arguments: Any
    ) -> dict[str, Any]:
        """Do one task (see `worker.TASKS`) and return its answer.

        Args:
            output: takes what its program prints.
        Raises:
            Failed: it could not be done.
        """
        self.start()
        request = os.memfd_create("request", os.MFD_CLOEXEC)
        reading, writing = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with open(request, "wb", closefd=False) as stream:
                stream.write(json.dumps({"task": task, **arguments}).encode())
            with self._lock:
                if self._socket is None:
                    raise Failed("cannot go on: the build was stopped", "", "build-stopped", 1)
                socket.send_fds(self._socket, [b"."], [request, theirs.fileno(), writing])
            theirs.close()
            os.close(writing)
            writing = -1
            while piece := os.read(reading, _PIECE):
                output(piece)
            message = ours.recv(1 << 20)
        except (BrokenPipeError, ConnectionError):
            message = b""
        finally:
            ours.close()
            theirs.close()
            for fd in (request, reading, writing):
                if fd >= 0:
                    os.close(fd)
        if not message:
            raise Failed(
                "cannot go on: the build's worker was ended",
                "run the build again",
                "build-stopped",
                1,
            )
        reply: dict[str, Any] = json.loads(message)
        if "error" in reply:
            raise Failed(
                reply["error"], reply.get("hint", ""), reply.get("ref", "build"), reply["code"]
            )
        return reply

    def close(self) -> None:
        """End the worker, and with it everything that it has started."""
        with self._lock:
            if self._socket is None:
                return
            self._socket.close()
            self._socket = None
            try:
                os.kill(self._pid, 9)
            except ProcessLookupError:
                pass
            os.waitpid(self._pid, 0)
