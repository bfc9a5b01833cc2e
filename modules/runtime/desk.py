"""Runs on the managed host: what lies on disk about a container that crun or runc makes, and how they are executed."""

from __future__ import annotations

import _socket as socket
import fcntl
import os
import select
import struct

from ..contract import plainjson
from . import syscalls as sys
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDER = "stand-in"
_INITS = (
    "/usr/libexec/podman/catatonit",
    "/usr/bin/catatonit",
    "/usr/bin/tini-static",
)
# Seconds after which one hangs: together below what a monitor waits for its container to be made, and what is
# left of a stop's answer after the grace period.
_SECONDS = {"create": 30.0, "start": 20.0, "delete": 5.0}
_KILLED_SECONDS = 5.0
_CONSOLE_SECONDS = 5.0
HANGS = "runtime-hangs"
_NOT_EXECUTABLE = ("ermission denied", "not permitted", "s a directory", "ormat error")


def find(runtime: str) -> str:
    """The path of its executable; empty where it is not installed."""
    for folder in _PATH.split(":"):
        path = os.path.join(folder, runtime)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def find_init() -> str:
    """A program of the host that is process 1 for others, and needs no library; empty where there is none."""
    return next((path for path in _INITS if os.access(path, os.X_OK)), "")


class Desk:
    """What lies on disk about one container: `DATA/containers/NAME/stand-in/`.

    `bundle/config.json`, the runtime's own state in `state/`, its `log` and `pid`; `parts` is where the worker
    and what it executes see what else is to be mounted.
    """

    def __init__(self, container: str) -> None:
        self.name = os.path.basename(container)
        self.folder = os.path.join(container, _FOLDER)
        self.bundle = os.path.join(self.folder, "bundle")
        self.parts = os.path.join(self.folder, "parts")
        self._log = os.path.join(self.folder, "log")
        self._pid = os.path.join(self.folder, "pid")

    def make(self, runtime: str) -> None:
        for folder in (self.folder, self.bundle, self.parts):
            os.mkdir(folder, 0o700)
        with open(os.path.join(self.folder, "runtime"), "w", encoding="utf-8") as stream:
            stream.write(runtime)

    def pid(self) -> int:
        with open(self._pid, encoding="ascii") as stream:
            return int(stream.read())

    def run(self, *words: str, stdio: Sequence[int] = (), apart: bool = False) -> None:
        """Execute the runtime, and wait for it. It ends with the thread that calls.

        Args:
            apart: in a process group of its own, so that what it has executed ends with it where it hangs.
        Raises:
            RuntimeFailure: with its own words, or that it did not end in its time and was killed.
        """
        with open(os.path.join(self.folder, "runtime"), encoding="utf-8") as stream:
            runtime = stream.read()
        path = find(runtime)
        if not path:
            raise RuntimeFailure(
                f"cannot run {self.name} with {runtime}: it is not installed",
                hint=f"install the package {runtime}, or leave `runtime` out",
                ref="no-runtime",
            )
        state = os.path.join(self.folder, "state")
        options = ("--root", state, "--log", self._log, "--log-format", "json")
        argv = [path, *options, *words]
        pid = os.fork()
        if pid == 0:
            _execute(argv, stdio, apart)
        seconds = _SECONDS[words[0]]
        if not _ended(pid, seconds, apart):
            raise RuntimeFailure(
                f"cannot {words[0]} {self.name} with {runtime}: it took more than {seconds:g} s, and was killed",
                hint=f"find out what {path} waits for on the host, or leave `runtime` out",
                ref=HANGS,
            )
        if os.waitpid(pid, 0)[1]:
            raise self._failure(runtime, words[0])

    def create(self, stdio: Sequence[int], *, terminal: bool) -> int:
        """Make the container; the master side of its terminal, -1 without one."""
        words = ("create", "--bundle", self.bundle, "--pid-file", self._pid)
        if not terminal:
            self.run(*words, self.name, stdio=stdio)
            return -1
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        where = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By descriptor: a socket's path may be at most 107 bytes long.
            path = f"/proc/{os.getpid()}/fd/{where}/console"
            listener.bind(path)
            listener.listen(1)
            self.run(*words, "--console-socket", path, self.name, stdio=stdio)
            return _taken(listener)
        finally:
            os.close(where)
            listener.close()

    def _failure(self, runtime: str, verb: str) -> RuntimeFailure:
        said = f"it failed, and left no word of why in {self._log}"
        try:
            with open(self._log, "rb") as stream:
                lines = stream.read().splitlines()
            said = str(plainjson.loads(lines[-1])["msg"])
        except (OSError, ValueError, LookupError, TypeError):
            pass
        code = 125
        if "executable" in said or "exec: " in said:
            code = 126 if any(word in said for word in _NOT_EXECUTABLE) else 127
        return RuntimeFailure(
            f"cannot {verb} {self.name} with {runtime}: {said}",
            hint="leave `runtime` out to have it run by hostctl's own",
            ref="container-failed",
            code=code,
        )

    def exists(self) -> bool:
        return os.path.isdir(self.folder)

    def clear(self) -> str:
        """End what its runtime still knows of, and remove all; twice is fine.

        Returns:
            That the runtime hung, in words; else empty. Nothing is left all the same.
        """
        if not self.exists():
            return ""
        said = ""
        if os.path.isdir(os.path.join(self.folder, "state", self.name)):
            try:
                self.run("delete", "--force", self.name, apart=True)
            except RuntimeFailure as error:
                # What it knew goes with the folder, its processes with the cgroup.
                said = error.message if error.ref == HANGS else ""
            except OSError:
                pass
        _remove(self.folder)
        return said


def _execute(argv: list[str], stdio: Sequence[int], apart: bool) -> NoReturn:
    """The child of `run`."""
    try:
        if apart:
            os.setpgid(0, 0)
        sys.prctl(sys.PR_SET_PDEATHSIG, 9)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # Via copies above 2, so that no descriptor is overwritten before it was used.
        copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in stdio or (null, null, null)]
        for number, fd in enumerate(copies):
            os.dup2(fd, number, inheritable=True)
        os.execve(argv[0], argv, {"PATH": _PATH})
    finally:
        os._exit(127)


def _ended(pid: int, seconds: float, apart: bool) -> bool:
    """Whether the child ends in its time; else it is killed, and taken."""
    pidfd = sys.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        if poll.poll(int(seconds * 1000)):
            return True
        if apart:
            os.killpg(pid, 9)
        else:
            os.kill(pid, 9)
        if poll.poll(int(_KILLED_SECONDS * 1000)):  # else the kernel keeps it, and init takes it
            os.waitpid(pid, 0)
        return False
    finally:
        os.close(pidfd)


def _taken(listener: socket.socket) -> int:
    """The terminal that a runtime has sent, which has ended by now. Raises RuntimeFailure."""
    listener.settimeout(_CONSOLE_SECONDS)
    try:
        fd, _ = listener._accept()  # type: ignore[attr-defined]
        peer = socket.socket(fileno=fd)
        peer.settimeout(_CONSOLE_SECONDS)
        _, rights, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        peer.close()
        master: int = struct.unpack("=i", rights[0][2])[0]
        return master
    except (OSError, LookupError) as error:
        raise RuntimeFailure(
            f"cannot create the container: its runtime sent no terminal ({error})",
            hint="leave `runtime` or `tty` out",
            ref="no-terminal",
        ) from error


def _remove(path: str) -> None:
    for inner, folders, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(inner, name))
        for name in folders:
            os.rmdir(os.path.join(inner, name))
    os.rmdir(path)
