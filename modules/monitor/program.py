"""Runs on the managed host: a further program in a container: what it is, and one that is waited for.

The agent runs what users ask for and hooks, a monitor's child runs healthchecks.
"""

from __future__ import annotations

import os
import select
import time

from ..agent.paths import Paths
from ..contract.kernel import CAPABILITY_NAMES
from ..runtime import apparmor, cgroup, join, process
from ..runtime.config import USER
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_OUTPUT = 4096


class TooLong(Exception):
    """The program has not ended in its time, and is ended."""


def plan(
    paths: Paths,
    name: str,
    words: Sequence[str],
    *,
    env: Iterable[str] = (),
    cwd: str = "",
    user: str = "",
    terminal: bool = False,
    privileged: bool = False,
) -> process.Process:
    """The container's own process with another program, and where given another user, folder and environment.

    Args:
        env: `NAME=VALUE`, beside the container's own.
    """
    config = apparmor.resolve(files.load(paths, name), paths.run, load=False)
    inside = config["process"]
    inside["args"] = list(words)
    inside["env"] = [*(inside.get("env") or ()), *env]
    if terminal and not any(item.startswith("TERM=") for item in inside["env"]):
        inside["env"].append("TERM=xterm")
    if cwd:
        inside["cwd"] = cwd
    if user:
        config.setdefault("annotations", {})[USER] = user
        inside.get("user", {}).pop("additionalGids", None)
        inside["env"] = [item for item in inside["env"] if not item.startswith("HOME=")]
    if privileged:
        sets = ("bounding", "effective", "permitted")
        inside["capabilities"] = {key: list(CAPABILITY_NAMES) for key in sets}
    return process.prepare(config, files.bundle(paths, name))


def run(
    paths: Paths, name: str, pid: int, wanted: process.Process, timeout: float
) -> tuple[int, str]:
    """The program's exit code, and what it printed last.

    Args:
        pid: the container's first process.
        timeout: seconds.
    Raises:
        TooLong, RuntimeFailure: it could not be executed.
    """
    own = cgroup.Cgroup(files.cgroup_path(paths, name), cgroup.detect())
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    reading, writing = os.pipe()
    try:
        try:
            joined = join.start(pid, wanted, own, stdio=[null, writing, writing])
        finally:
            os.close(writing)
        return _watched(joined, reading, timeout)
    finally:
        os.close(null)
        os.close(reading)


def _watched(joined: join.Joined, reading: int, timeout: float) -> tuple[int, str]:
    until = time.monotonic() + timeout
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    poll.register(joined.pidfd, select.POLLIN)
    data = b""
    ended = False
    while not ended:
        left = until - time.monotonic()
        if left <= 0:
            joined.kill()
            joined.wait()
            raise TooLong
        for fd, _ in poll.poll(int(left * 1000) + 1):
            if fd == joined.pidfd:
                ended = True
            else:
                data = (data + _some(reading, poll))[-2 * _OUTPUT :]
    os.set_blocking(reading, False)
    try:
        data += os.read(reading, _OUTPUT)
    except BlockingIOError:
        pass
    return joined.wait(), data.decode("utf-8", "replace")


def _some(fd: int, poll: select.poll) -> bytes:
    found = os.read(fd, _OUTPUT)
    if not found:
        poll.unregister(fd)
    return found
