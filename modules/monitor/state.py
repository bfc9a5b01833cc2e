"""Runs on the managed host: what is known about one container, in `RUN/containers/NAME/state.json`.

The monitor writes it, everybody reads it; `pid` counts only with its start time and the host's boot.
"""

from __future__ import annotations

import fcntl
import os
import time

from ..contract import plainjson
from ..runtime.reading import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_boot_id = ""
CREATED, RUNNING, RESTARTING, EXITED = "created", "running", "restarting", "exited"


class State:
    """Attributes:
    status: created, running, restarting (waits to be started again) or exited.
    pid, start_time: the first process and field 22 of its stat; 0 when there is none.
    monitor, monitor_start: the same of the monitor.
    boot_id: the boot of the host that they belong to.
    exit_code: of the last end, 128 + signal where a signal ended it; None: never ended, or lost.
    lost: it ended while no monitor was there to be told how.
    oom: the kernel killed a process of it because its memory ran out.
    restarts: how often the restart policy started it again.
    started_at, finished_at: seconds since 1970, 0 for never.
    stopped: somebody asked it to stop.
    error: why it could not be started.
    health: `status`, `failing` (in a row) and `log` of the last looks; None without a healthcheck.
    ill: it was ended because it was unhealthy, and is to be started again.
    wait: seconds that it waits for its next start (restarting).
    """

    def __init__(self, name: str, **known: Any) -> None:
        self.name = name
        self.status: str = CREATED
        self.pid = self.start_time = 0
        self.monitor = self.monitor_start = 0
        self.boot_id = ""
        self.exit_code: int | None = None
        self.lost = self.oom = False
        self.restarts = 0
        self.started_at = self.finished_at = 0.0
        self.stopped = False
        self.error = ""
        self.wait = 0.0
        self.health: dict[str, Any] | None = None
        self.ill = False
        for key, value in known.items():
            # A newer monitor may have written fields that this version does not know.
            if key in self.__dict__:
                setattr(self, key, value)

    def __repr__(self) -> str:
        return f"State({self.__dict__})"

    @property
    def watched(self) -> bool:
        """Whether its monitor is there, in this boot."""
        return self.boot_id == boot_id() and alive(self.monitor, self.monitor_start)

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.error:
            return self.error
        if self.lost:
            return "its exit code was lost (no monitor was running)"
        if self.exit_code is None:
            return "it has not ended"
        words = f"exit code {self.exit_code}"
        if self.exit_code > 128:
            words += f" (signal {self.exit_code - 128})"
        return words + (", out of memory" if self.oom else "")


def read(folder: str) -> State | None:
    """The state in the container's run folder; None where there is none (or half of one)."""
    try:
        data = plainjson.loads(content(os.path.join(folder, "state.json")))
    except (FileNotFoundError, ValueError):
        return None
    return from_json(data)


def from_json(data: dict[str, Any]) -> State:
    """Fields that this version does not know are left out."""
    return State(**data)


def to_json(state: State) -> dict[str, Any]:
    """The state as JSON, with the words of its ending."""
    return {**state.__dict__, "ending": state.ending}


def write(folder: str, state: State) -> None:
    """Replace the file. No fsync: what it says ends with the host's run."""
    _replace(folder, f".state.json.{os.getpid()}", state)


def keep(folder: str, state: State) -> None:
    """The same in the container's own folder: how it started or ended last, for after a reboot.

    By one writer at a time. A power cut may lose it: then it counts as one that ran.
    """
    _replace(folder, ".state.json", state)


def _replace(folder: str, name: str, state: State) -> None:
    temp = os.path.join(folder, name)
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, plainjson.dumps(to_json(state)).encode())
    finally:
        os.close(fd)
    os.rename(temp, os.path.join(folder, "state.json"))


class changing:  # reads as a word of the `with` statement
    """The state, while nobody else who asks so can change it. Writing is up to the caller.

    Without `wait` it raises BlockingIOError where somebody does so just now.
    """

    def __init__(self, folder: str, *, wait: bool = True) -> None:
        self._folder = folder
        self._how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB

    def __enter__(self) -> State | None:
        self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, self._how)
        except BaseException:
            os.close(self._fd)
            raise
        return read(self._folder)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def boot_id() -> str:
    """The kernel's name of this boot, which every process asks for once."""
    global _boot_id
    _boot_id = _boot_id or content("/proc/sys/kernel/random/boot_id").decode().strip()
    return _boot_id


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; 0 for a process that is not there, or a zombie."""
    try:
        fields = content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def alive(pid: int, started: int) -> bool:
    """Whether that very process is there, and not another one of the same number."""
    return pid > 0 and started > 0 and start_time(pid) == started


def container_alive(state: State) -> bool:
    """Whether the container's first process is there, in this boot."""
    return state.boot_id == boot_id() and alive(state.pid, state.start_time)


def sleeps(pid: int) -> bool:
    """Whether it waits for something other than a processor or a disk."""
    return _letter(pid) == b"S"


def halted(pid: int) -> bool:
    """Whether somebody has stopped it: by itself it does nothing any more."""
    return _letter(pid) in (b"T", b"t")


def _letter(pid: int) -> bytes:
    """Field 3 of /proc/PID/stat (proc_pid_stat(5)); empty where there is no such process."""
    try:
        return content(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0]
    except OSError:
        return b""


def now() -> float:
    return round(time.time(), 3)
