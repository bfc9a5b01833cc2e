"""Runs on the managed host: the process that monitors are forked from, one per host and hostctl version.

Started by exec with a clean environment, it imports all that a monitor ever needs, so that the pages
stay shared and an upgrade of Python or hostctl breaks no running monitor. It owns nothing: it may be
killed at any time, and the next start makes another one.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import traceback
from typing import NoReturn

from ..agent.host import Paths
from ..contract.errors import HostctlError
from ..runtime import cgroup, handshake, syscalls
from . import control, state
from .monitor import Monitor

BACKLOG = 1024
_CHECK_SECONDS = 60.0
_REQUEST_SECONDS = 10.0
_OOM_SCORE = -900
_LIMITS = (
    (resource.RLIMIT_NOFILE, 1024, 524288),
    (resource.RLIMIT_CORE, -1, -1),
    (resource.RLIMIT_NPROC, -1, -1),
    (resource.RLIMIT_FSIZE, -1, -1),
    (resource.RLIMIT_DATA, -1, -1),
    (resource.RLIMIT_AS, -1, -1),
    (resource.RLIMIT_CPU, -1, -1),
    (resource.RLIMIT_STACK, 8 << 20, -1),
)


def main(run_dir: str, path: str) -> None:
    """The process that the agent executed: binds the socket, and leaves a child that serves it.

    The agent waits for the end of this process: when it has ended with 0, the socket listens.
    """
    _settle()
    folder, name = os.path.split(path)
    listener = control.listen(folder, name)
    listener.listen(BACKLOG)
    listener.setblocking(True)
    if os.fork():
        os._exit(0)
    _move(run_dir)
    syscalls.set_process_name("hostctl-zygote")
    # Children are reaped by the kernel: a monitor's end concerns nobody here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    syscalls.malloc_trim()
    _serve(listener, path)


def _settle() -> None:
    """The same surroundings whether started over SSH or at boot."""
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    syscalls.close_range(3)
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for kind, soft, hard in _LIMITS:
        _limit(kind, soft, hard)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
            stream.write(str(_OOM_SCORE))
    except PermissionError:
        return  # inside a container that may not: then as likely a victim as others


def _limit(kind: int, soft: int, hard: int) -> None:
    """As wanted, or as near as this host allows."""
    _, ceiling = resource.getrlimit(kind)
    for top in (hard, ceiling):
        wanted = soft if top == -1 or (soft != -1 and soft <= top) else top
        try:
            resource.setrlimit(kind, (wanted, top))
            return
        except (ValueError, OSError):
            continue


def _move(run_dir: str) -> None:
    """Out of the SSH session's cgroup: its end must not be ours."""
    home = cgroup.Cgroup(cgroup.monitors_path(run_dir), cgroup.detect())
    if home.folders():
        cgroup.make(home)
        home.join(os.getpid())


def _serve(listener: socket.socket, path: str) -> NoReturn:
    listener.settimeout(_CHECK_SECONDS)
    own = os.stat(path)
    while True:
        try:
            peer, _ = listener.accept()
        except socket.timeout:
            if not _still_ours(path, own):
                os._exit(0)
            continue
        if os.fork() == 0:
            listener.close()
            try:
                _become_monitor(peer)
            finally:
                os._exit(0)
        peer.close()


def _still_ours(path: str, own: os.stat_result) -> bool:
    """Another zygote, or the removal of hostctl, takes the socket's name away."""
    try:
        return os.path.samestat(os.stat(path), own)
    except FileNotFoundError:
        return False


def _become_monitor(peer: socket.socket) -> None:
    """Child: read the request, start or adopt, answer, and stay until the container has ended."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    syscalls.set_process_name("hostctl-monitor")
    peer.settimeout(_REQUEST_SECONDS)
    with peer, peer.makefile("rb") as stream:
        line = stream.readline(1 << 16)
        if not line:
            return  # somebody looked whether a zygote listens
        request = json.loads(line)
        paths, name = Paths(request["data"], request["run"]), request["name"]
        folder = paths.container_run(name)
        try:
            monitor = Monitor(paths, name)
            if request["verb"] == "adopt":
                old = state.read(folder)
                monitor.adopt(old or state.State(request["name"]))
            else:
                monitor.start()
            answer = {"state": state.to_json(monitor.state)}
        except (HostctlError, OSError) as error:
            answer = {"error": handshake.describe(error)}
        try:
            peer.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass  # the agent was killed meanwhile: the container runs, and the next one finds it
    if "error" not in answer:
        try:
            monitor.run()
        except BaseException:
            # The container goes on without us; the next apply adopts it. Leave word of what happened.
            with open(os.path.join(folder, "monitor.crash"), "w", encoding="utf-8") as crash:
                traceback.print_exc(file=crash)
