"""Runs on the managed host: one run at a time: an flock on RUN/lock with its holder as JSON inside.

The kernel drops the lock with its holder, however that ends. A plan shares it, and makes no file for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any, Callable

from ..contract.errors import HostctlError
from .channel import HEARTBEAT, Channel, ControllerGone
from .files import private_folder

_POLL = 0.05


_ENDING = "its controller has gone, and it ends after what it is doing"


class Lock:
    """A held lock; `release` empties the holder's line before others may see it."""

    def __init__(self, fd: int, exclusive: bool) -> None:
        self._fd = fd
        self._exclusive = exclusive

    def release(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        if self._exclusive:
            os.ftruncate(fd, 0)
        os.close(fd)

    def tell_ending(self, path: str) -> None:
        """Any thread: nothing new is begun under this lock any more, which who waits for it may know."""
        try:
            # A descriptor of its own: that of the lock may be closed meanwhile, and its number be another file's.
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            holder = json.loads(os.pread(fd, 4096, 0) or b"{}")
            if holder.get("pid") == os.getpid() and self._fd >= 0:
                _write(fd, {**holder, "action": f"{holder['action']}; {_ENDING}"})
        except (OSError, ValueError):
            return
        finally:
            os.close(fd)


def acquire(
    run_dir: str, *, exclusive: bool, who: str, action: str, wait: float, channel: Channel
) -> Lock | None:
    """Take the host's lock, or tell the controller who holds it (`waiting`, then `locked`) and return None.

    Raises:
        ControllerGone: the controller hung up while this waited.
        HostctlError: the run folder cannot be made or opened.
    """
    try:
        fd = _open(run_dir, exclusive)
    except OSError as error:
        raise HostctlError(
            f"cannot lock this host: {error.strerror} ({error.filename})",
            hint="set `become: true`, or a `hostctl_run_dir` of the user's own",
            ref="lock-failed",
        ) from error
    if fd < 0:
        return Lock(fd, exclusive=False)
    how = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB

    def attempt() -> bool:
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            return False
        return True

    if not attempt() and not _wait(attempt, fd, wait, channel):
        channel.send("locked", holder=_holder(fd))
        os.close(fd)
        return None
    lock = Lock(fd, exclusive)
    if exclusive:
        _write_holder(fd, who, action)
        channel.on_gone(lambda: lock.tell_ending(os.path.join(run_dir, "lock")))
    return lock


def attempt(run_dir: str, *, who: str, action: str) -> Lock | None:
    """The lock for one that writes, at once or not at all. Raises OSError without a usable run folder."""
    fd = _open(run_dir, exclusive=True)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    _write_holder(fd, who, action)
    return Lock(fd, exclusive=True)


def _open(run_dir: str, exclusive: bool) -> int:
    """The lock file's descriptor; -1 where a plan finds none."""
    path = os.path.join(run_dir, "lock")
    if exclusive:
        private_folder(run_dir)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _wait(attempt: Callable[[], bool], fd: int, wait: float, channel: Channel) -> bool:
    """Poll until `wait` seconds have passed; there are no threads yet, so heartbeats are sent here."""
    if wait <= 0:
        return False
    channel.send("waiting", holder=_holder(fd))
    end = time.monotonic() + wait
    beat = time.monotonic() + HEARTBEAT
    while time.monotonic() < end:
        time.sleep(_POLL)
        if attempt():
            return True
        if channel.hung_up():
            raise ControllerGone
        if time.monotonic() >= beat:
            channel.send("heartbeat")
            beat += HEARTBEAT
    return False


def _write_holder(fd: int, who: str, action: str) -> None:
    holder = {
        "who": who,
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "since": int(time.time()),
        "action": action,
    }
    _write(fd, holder)


def _write(fd: int, holder: dict[str, Any]) -> None:
    text = json.dumps(holder).encode()
    os.ftruncate(fd, 0)
    os.pwrite(fd, text, 0)


def _holder(fd: int) -> dict[str, Any]:
    """The holder's own words; a plan leaves none, and those of a killed holder do not count."""
    try:
        holder: dict[str, Any] = json.loads(os.pread(fd, 4096, 0))
        if os.path.exists(f"/proc/{holder['pid']}"):
            return holder
    except (ValueError, KeyError, TypeError):
        pass
    return {"who": "", "host": os.uname().nodename, "pid": 0, "since": 0, "action": "plan"}
