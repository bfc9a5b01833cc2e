"""Runs on the managed host: the process that monitors are forked from, one per host and hostctl version.

Started by exec with a clean environment, it imports all that a monitor ever needs, so that the pages
stay shared and an upgrade of Python or hostctl breaks no running monitor. It owns nothing: it may be
killed at any time, and the next start makes another one.
"""

from __future__ import annotations

import _signal as signal
import gc
import os
import resource
import select

from ..runtime import cgroup, cgroup_places, syscalls
from . import apart, control, state, steps
from .monitor import NAME, renamer, running, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

BACKLOG = 1024
_LEAVE = b"x"
_REHEARSALS = 8
"""After so many calls Python 3.11 rewrites a function's code: once for all monitors, not in each."""
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
    os.dup2(bound.fileno(), apart.LISTENER, inheritable=False)
    bound.close()
    if os.fork():
        os._exit(0)
    _move(run_dir)
    # Orphans of monitors come here; the kernel reaps them, and monitors: their end concerns nobody.
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    # What is the same in all monitors is looked up once, and shared.
    syscalls.bind()
    state.boot_id()
    gc.collect()
    gc.disable()
    syscalls.malloc_trim()
    waiter = _Waiter(run_dir, path)
    for _ in range(_REHEARSALS):
        waiter.rehearse()
    renamer(b"hostctl-zygote")()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    waiter.serve()


class _Rehearsal:
    """A container without a process: it said something, and has ended."""

    def begin(self, _client: object, _waiting: int) -> apart.Answer:
        pipes = [os.pipe() for _ in range(4)]
        for reading, _ in pipes:
            os.set_blocking(reading, False)
        os.write(pipes[0][1], b"a line\nand a half")
        os.write(pipes[3][1], b"the end")
        null = os.open(os.devnull, os.O_RDWR)
        numbers = (apart.STDOUT, apart.STDERR, apart.CONTROL, apart.PIDFD)
        read = {number: pair[0] for number, pair in zip(numbers, pipes)}
        fds = {apart.WAKE: null, apart.LOG: null, apart.RESOLVER: null, **read}
        fds[apart.WAKER] = pipes[2][1]  # or its end would look like a client
        return b"run 0 0 0 adopt\0-\0/dev/null\0-", fds

    def ended(self, _line: bytes, _status: int) -> apart.Answer:
        return steps.END


class _Waiter:
    """The process that waits for a client, and then is the monitor of its container."""

    def __init__(self, run_dir: str, path: str) -> None:
        self._run_dir = run_dir
        self._path = path
        self._own = os.stat(path)
        self._zygote = os.getpid()
        self._rename = renamer(NAME)
        self._fork = syscalls.frugal("clone", signal.SIGCHLD, told=False)
        self._container = running()

    def rehearse(self) -> None:
        """Live once as a monitor: what Python makes at the first call is then made, and shared."""
        watch(_Rehearsal(), self._container, self._rename, self.client, -1)  # type: ignore[arg-type]
        syscalls.close_range(apart.WORD, apart.LAST)

    def serve(self) -> NoReturn:
        """Keep one process waiting for a client. All else is for children: what the zygote itself touches
        between two forks is no longer shared with the older monitors."""
        word = b""
        while word != _LEAVE:
            reading, writing = os.pipe()
            if self._fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                try:
                    watch(steps, self._container, self._rename, self.client, writing)
                finally:
                    os._exit(0)
            os.close(writing)
            # It has a client; or was killed: then the stream ends.
            word = os.read(reading, 1)
            os.close(reading)
        os._exit(0)

    def client(self, waiting: int) -> bool:
        """In the waiting process's child: whether there is one. If not, zygote and all leave.

        It ends with its parent, also later: what it starts would have no monitor, and the client begins again.
        """
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == self._zygote:
            return False  # its parent was killed before that, and the zygote has got it
        poll = select.poll()
        poll.register(apart.LISTENER, select.POLLIN)
        while not poll.poll(_CHECK_MILLISECONDS):
            if not _still_ours(self._path, self._own) or self._unused():
                self._leave(waiting)
                return False
        return True

    def _family(self) -> set[int]:
        return {os.getpid(), os.getppid(), self._zygote}

    def _unused(self) -> bool:
        """Nothing but zygote and waiter is in their cgroup: no container of this host runs.

        In the cgroup of a service of systemd it stays: systemd takes back one that becomes empty, and then
        moves about what comes there later.
        """
        if cgroup_places.delegated(self._run_dir):
            return False
        home = cgroup.Cgroup(cgroup.monitors_path(self._run_dir), cgroup.detect())
        return home.processes() <= self._family()

    def _leave(self, waiting: int) -> None:
        """Nothing stays of a hostctl that runs nothing. Who connects just now starts another zygote."""
        if _still_ours(self._path, self._own):
            os.unlink(self._path)
        _go_back(self._family())
        cgroup.prune(self._run_dir)
        os.write(waiting, _LEAVE)


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


def _go_back(pids: set[int]) -> None:
    """To where the zygote came from: the root of version 2 may be closed to processes."""
    for folder in _came_from:
        for pid in pids:
            try:
                with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as stream:
                    stream.write(str(pid))
            except OSError:
                continue  # it is gone; an empty cgroup of ours stays until the next hostctl here ends


def _still_ours(path: str, own: os.stat_result) -> bool:
    """Another zygote, or the removal of hostctl, takes the socket's name away."""
    try:
        return os.path.samestat(os.stat(path), own)
    except FileNotFoundError:
        return False
