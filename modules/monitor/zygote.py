"""Runs on the managed host: the process that monitors are forked from, one per host and hostctl version.

Started by exec with a clean environment, it imports all that a monitor ever needs, so that the pages
stay shared and an upgrade of Python or hostctl breaks no running monitor. It owns nothing: it may be
killed at any time, and the next start makes another one.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal

from ..runtime import cgroup, syscalls
from . import apart, control, steps
from .monitor import rename, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

BACKLOG = 1024
_LEAVE = b"x"
_REHEARSALS = 2
# Beneath Python's wrapper, which looks for enumerations and touches 150 kB for it.
_SIGNAL = getattr(signal.signal, "__wrapped__", signal.signal)
_CHECK_MILLISECONDS = 5_000
_OOM_SCORE = -900
_came_from: list[str] = []
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
    bound = control.listen(folder, name)
    bound.listen(BACKLOG)
    listener = bound.detach()
    if os.fork():
        os._exit(0)
    _move(run_dir)
    # Orphans of monitors come here; the kernel reaps them, and monitors: their end concerns nobody.
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    own = os.stat(path)
    gc.collect()
    gc.disable()
    syscalls.malloc_trim()
    for _ in range(_REHEARSALS):
        _rehearse()
    rename(b"hostctl-zygote")
    _SIGNAL(17, 1)  # SIGCHLD, SIG_IGN
    gc.freeze()
    _serve(listener, run_dir, path, own)


class _Rehearsal:
    """A container without a process: it said something, and has ended."""

    def __init__(self) -> None:
        self.pipes = [os.pipe() for _ in range(4)]  # stdout, stderr, listener, pidfd
        for reading, _ in self.pipes:
            os.set_blocking(reading, False)
        os.write(self.pipes[0][1], b"a line\nand a half")
        os.write(self.pipes[3][1], b"the end")

    def begin(self, lock: int, _waiting: int) -> apart.Answer:
        return b"run 0 4096 1 adopt\0-\0/dev/null\0-", [lock, *(pair[0] for pair in self.pipes)]

    def ended(self, _line: bytes, _status: int) -> apart.Answer:
        return steps.END


def _rehearse() -> None:
    """Live once as a monitor: what Python makes at the first call is then made, and shared."""
    acts = _Rehearsal()
    watch(acts, *os.pipe())  # type: ignore[arg-type]  # no client comes, no restart follows
    for pair in acts.pipes:
        os.close(pair[0])
        os.close(pair[1])


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
        _came_from.extend(_origins())
        cgroup.make(home)
        home.join(os.getpid())


def _origins() -> list[str]:
    """Folders of the cgroups that this process is in, one for each hierarchy (cgroups(7))."""
    hierarchies = cgroup.detect()
    found = []
    with open("/proc/self/cgroup", encoding="utf-8") as stream:
        for line in stream:
            _, names, path = line.rstrip("\n").split(":", 2)
            known = [hierarchies.v1[name] for name in names.split(",") if name in hierarchies.v1]
            root = known[0] if known else ("" if names else hierarchies.v2)
            if root:
                found.append(os.path.join(root, path.lstrip("/")))
    return found


def _go_back() -> None:
    """Waiter and zygote, to where the zygote came from: the root of version 2 may be closed to processes."""
    for folder in _came_from:
        for pid in (os.getpid(), os.getppid()):
            try:
                with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as stream:
                    stream.write(str(pid))
            except OSError:
                continue  # it is gone; an empty cgroup of ours stays until the next hostctl here ends


def _serve(listener: int, run_dir: str, path: str, own: os.stat_result) -> NoReturn:
    """Keep one process waiting for a client. All else is for children: what the zygote itself touches
    between two forks is no longer shared with the older monitors."""
    word = b""
    while word != _LEAVE:
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)
            try:
                _wait(listener, run_dir, path, own, writing)
            finally:
                os._exit(0)
        os.close(writing)
        # It has a client; or was killed: then the stream ends.
        word = os.read(reading, 1)
        os.close(reading)
    os._exit(0)


def _wait(listener: int, run_dir: str, path: str, own: os.stat_result, waiting: int) -> None:
    """Child: wait for one client, and be the monitor of its container."""
    poll = select.poll()
    poll.register(listener, 1)
    if not poll.poll(_CHECK_MILLISECONDS):
        if not _still_ours(path, own) or _unused(run_dir):
            _leave(run_dir, path, own, waiting)
        return
    _SIGNAL(17, 0)  # SIGCHLD, SIG_DFL
    watch(steps, listener, waiting)


def _still_ours(path: str, own: os.stat_result) -> bool:
    """Another zygote, or the removal of hostctl, takes the socket's name away."""
    try:
        return os.path.samestat(os.stat(path), own)
    except FileNotFoundError:
        return False


def _unused(run_dir: str) -> bool:
    """Nothing but zygote and waiter is in their cgroup: no container of this host runs."""
    home = cgroup.Cgroup(cgroup.monitors_path(run_dir), cgroup.detect())
    return home.processes() <= {os.getpid(), os.getppid()}


def _leave(run_dir: str, path: str, own: os.stat_result, waiting: int) -> NoReturn:
    """Nothing stays of a hostctl that runs nothing. Who connects just now starts another zygote."""
    if _still_ours(path, own):
        os.unlink(path)
    _go_back()
    cgroup.prune(run_dir)
    os.write(waiting, _LEAVE)
    os._exit(0)
