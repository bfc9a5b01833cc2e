"""Runs on the managed host, where a profile has SCMP_ACT_NOTIFY: hands the kernel's questions to their answerer.

Source: OCI runtime-spec 1.2, config-linux.md, "The Container Process State"; seccomp_unotify(2). The
process under the filter cannot send the descriptor itself, because each call that it takes may be one to
notify of. A helper that shares its descriptors sees the new one appear, and sends it.
"""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import time

from ...contract import plainjson
from .. import syscalls as sys
from ..config import Config, RuntimeFailure, section
from .install import Filter, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SECONDS = 5.0
_STEP = 0.0002


class Listener:
    """A connection to the answerer, made while its path can be seen; and what it is told."""

    def __init__(self, config: Config, bundle: str) -> None:
        found = section(config, "linux", "seccomp")
        self.path = str(found["listenerPath"])
        self._metadata = str(found.get("listenerMetadata") or "")
        self._version = str(config.get("ociVersion") or "1.2.0")
        group = str(section(config, "linux", "cgroupsPath") or "").replace(":", "/")
        self._state = {
            "ociVersion": self._version,
            "id": os.path.basename(group) or os.path.basename(bundle),
            "status": "creating",
            "bundle": bundle,
            "annotations": dict(config.get("annotations") or {}),
        }
        self._pid = 0
        self._pipe = (-1, -1)
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(SECONDS)
        try:
            self._connection.connect(self.path)
        except OSError as error:
            raise self._failed(str(error.strerror or error)) from error

    def filenos(self) -> tuple[int, ...]:
        """To be kept open until `enter`."""
        return (self._connection.fileno(), *(fd for fd in self._pipe if fd >= 0))

    def enter_host(self) -> None:
        """Child, while it sees the host's /proc: which pid it has there."""
        self._pid = int(os.readlink("/proc/self"))

    def await_pid(self) -> None:
        """Before a fork into the container's pid namespace: the child cannot know its pid on the host."""
        self._pipe = os.pipe()

    def tell_pid(self, pid: int) -> None:
        """After that fork, on the host's side."""
        os.write(self._pipe[1], str(pid).encode())

    def learn_pid(self) -> None:
        """After that fork, in the child."""
        self._pid = int(os.read(self._pipe[0], 32))
        self._state["status"] = "running"

    def enter(self, found: Filter) -> None:
        """Child: install the filter; its descriptor is with the answerer when this returns."""
        awaited = os.dup(
            self._connection.fileno()
        )  # the lowest free number: the kernel takes that one
        os.close(awaited)
        helper = sys.clone(sys.CLONE_FILES)
        if helper == 0:
            self._hand_over(awaited)
        try:
            sys.seccomp(found.flags, found.program)
        except OSError as error:
            os.kill(helper, signal.SIGKILL)
            os.waitpid(helper, 0)
            raise refused(error) from error
        try:
            _, status = os.waitpid(helper, 0)
        except OSError:
            return  # the profile forbids it; the descriptor is on its way all the same
        if status:
            raise self._failed("it did not take the message")

    def _hand_over(self, awaited: int) -> NoReturn:
        """The helper. Its end says whether it worked."""
        sys.prctl(sys.PR_SET_PDEATHSIG, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        try:
            while not _is_open(awaited):
                if time.monotonic() > deadline:
                    os._exit(1)
                time.sleep(_STEP)
            self._send(awaited)
            os._exit(0)
        finally:
            os._exit(1)

    def _send(self, descriptor: int) -> None:
        message = {
            "ociVersion": self._version,
            "fds": ["seccompFd"],
            "pid": self._pid,
            "metadata": self._metadata,
            "state": {**self._state, "pid": self._pid},
        }
        rights = array.array("i", [descriptor])
        data = plainjson.dumps(message).encode()
        sent = self._connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        self._connection.sendall(data[sent:])
        # "Exactly one state per connection": the container's own copy is closed by its exec.
        self._connection.shutdown(socket.SHUT_RDWR)

    def _failed(self, reason: str) -> RuntimeFailure:
        return RuntimeFailure(
            f"cannot hand over the notifications of linux.seccomp at {self.path}: {reason}",
            where="config.json",
            hint="start the program that is to answer them, or correct linux.seccomp.listenerPath",
            ref="no-seccomp-listener",
        )


def _is_open(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETFD)
    except OSError:
        return False
    return True
