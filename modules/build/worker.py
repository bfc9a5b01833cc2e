"""Runs on the managed host, started by the agent: does what a build does to trees, and runs its programs.

It is the first process of a pid namespace, with a mount namespace of its own: when the agent ends, whatever way,
the kernel ends it and all that it has started, and what was mounted is gone. It is single-threaded; each task is
a child, which gets a request, does it and answers.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys as interpreter
from typing import Any, Callable, NoReturn

from ..contract.errors import HostctlError
from ..runtime import syscalls as sys
from . import copying, running

TASKS: dict[str, Callable[..., dict[str, Any]]] = {"run": running.run, "copy": copying.copy}


def main() -> NoReturn:
    """Descriptor 0 is a socket: each message has a request (a file), where to answer, and where output goes."""
    _die_with_parent()
    sys.unshare(sys.CLONE_NEWPID | sys.CLONE_NEWNS)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    _die_with_parent()
    sys.mount(None, "/", None, sys.MS_REC | sys.MS_PRIVATE)
    sys.mount("proc", "/proc", "proc", sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC)
    requests = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, fds, _, _ = socket.recv_fds(requests, 64, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            _serve(*fds)
        for fd in fds:
            os.close(fd)


def _die_with_parent() -> None:
    parent = os.getppid()
    sys.prctl(sys.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _serve(request: int, answer: int, output: int) -> NoReturn:
    """The child: one task, one answer."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    reply: dict[str, Any]
    try:
        _die_with_parent()
        with open(request, "rb") as stream:
            stream.seek(0)
            task = json.loads(stream.read())
        reply = TASKS[task.pop("task")](output=output, **task)
    except HostctlError as error:
        reply = {"error": error.message, "hint": error.hint, "ref": error.ref}
        reply["code"] = getattr(error, "code", 1)
    except OSError as error:
        what = f" {os.fsdecode(error.filename)}" if error.filename else ""
        reply = {"error": f"cannot use{what or ' a file'}: {error.strerror or error}", "code": 1}
    except BaseException as error:
        reply = {"error": f"cannot go on: {type(error).__name__}: {error}", "code": 1}
    try:
        os.write(answer, json.dumps(reply).encode())
    finally:
        interpreter.stderr.flush()
        os._exit(0)
