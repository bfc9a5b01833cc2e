"""Runs on the managed host, in the agent: carries a program in a container between it and the channel."""

from __future__ import annotations

import errno
import os
import select
import threading
from typing import TYPE_CHECKING, Any

from ..runtime import cgroup, join, process
from ..runtime.config import RuntimeFailure
from . import files, program
from .state import State

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Paths

_READ = 64 << 10


def run(paths: Paths, name: str, now: State, args: dict[str, Any], channel: Channel) -> int:
    """The exit code: 126 or 127 where the program could not be executed, as Docker's."""
    terminal = bool(args.get("tty"))
    plan = _plan(paths, name, args)
    own = cgroup.Cgroup(files.cgroup_path(paths, name), cgroup.detect())
    size = (int(args.get("rows") or 0), int(args.get("columns") or 0))
    pipes = [] if terminal else [os.pipe(), os.pipe(), os.pipe()]
    try:
        stdio = [pipes[0][0], pipes[1][1], pipes[2][1]] if pipes else []
        joined = join.start(now.pid, plan, own, stdio=stdio, terminal=terminal, size=size)
    except RuntimeFailure as error:
        for pair in pipes:
            os.close(pair[0])
            os.close(pair[1])
        if error.code not in (126, 127):
            raise
        channel.send("data", f"hostctl: {error.message}\n".encode(), stream="stderr")
        return error.code
    if pipes:
        for fd in stdio:
            os.close(fd)
        sink, outputs = pipes[0][1], {pipes[1][0]: "stdout", pipes[2][0]: "stderr"}
    else:
        sink, outputs = joined.terminal, {joined.terminal: "stdout"}
    channel.on_gone(joined.kill)
    wanted = terminal or bool(args.get("stdin") or args.get("interactive"))
    pump = threading.Thread(target=_input, args=(channel, sink, terminal, wanted), daemon=True)
    pump.start()
    _output(outputs, joined.pidfd, channel)
    return joined.wait()


def _plan(paths: Paths, name: str, args: dict[str, Any]) -> process.Process:
    """What the request asks for."""
    return program.plan(
        paths,
        name,
        [str(item) for item in args.get("command") or args.get("argv") or ()],
        env=[str(item) for item in args.get("env") or ()],
        cwd=str(args.get("workdir") or ""),
        user=str(args.get("user") or ""),
        terminal=bool(args.get("tty")),
    )


def _input(channel: Channel, sink: int, terminal: bool, wanted: bool) -> None:
    """The thread that takes the controller's frames. The sink is closed at the input's end."""
    from ..agent.channel import ControllerGone

    is_open = True
    if not wanted:
        os.close(sink)
        is_open = False
    while True:
        try:
            header, body = channel.receive()
        except ControllerGone:
            return
        try:
            if header["type"] == "stdin" and is_open:
                _write(sink, body)
            elif header["type"] == "eof" and is_open and not terminal:
                os.close(sink)
                is_open = False
            elif header["type"] == "eof" and is_open:
                _write(sink, b"\x04")
            elif header["type"] == "resize" and terminal:
                join.resize(sink, int(header["rows"]), int(header["columns"]))
        except OSError:
            # The program no longer reads; what it prints still counts.
            if is_open and not terminal:
                os.close(sink)
            is_open = False


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _output(outputs: dict[int, str], pidfd: int, channel: Channel) -> None:
    """Pass output on until the program has ended, and what it left in the pipes."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    for fd in outputs:
        poll.register(fd, select.POLLIN)
    ended = False
    while True:
        # Descriptors stay blocking (a terminal is written to by another thread): read when ready.
        ready = [fd for fd, _ in poll.poll(0 if ended else None)]
        if ended and not ready:
            break
        for fd in ready:
            if fd == pidfd:
                ended = True
                poll.unregister(pidfd)
            elif not _pass_on(fd, outputs[fd], channel):
                poll.unregister(fd)
    for fd in outputs:
        os.close(fd)


def _pass_on(fd: int, stream: str, channel: Channel) -> bool:
    """Whether there may be more: False at the end of the stream."""
    try:
        data = os.read(fd, _READ)
    except OSError as error:
        if error.errno == errno.EIO:  # the terminal's last user has closed it
            return False
        raise
    if data:
        channel.send("data", data, stream=stream)
    return bool(data)
