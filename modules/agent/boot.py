"""Runs on the managed host, called by its init: `boot` starts the containers of this host, `shutdown` stops them.

What a reboot takes is made again first: networks with their firewall; volumes are folders, or mounted by
each container; secrets are opened when a container needs them. A word for each failure goes to stderr, the
init's log, and the exit code is 0 anyway: a service that has failed would not be stopped in order later.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..contract.errors import HostctlError
from ..monitor import client, starter
from ..runtime import together
from . import lock, unit

if TYPE_CHECKING:
    from .host import Paths

_LOOK_SECONDS = 0.2
_SHUTDOWN_WAIT = 60.0


def boot(paths: Paths) -> int:
    """Start what has to run. While something else changes this host, that may do it: then nothing is left."""
    if unit.init() == unit.SYSTEMD:
        with _telling():
            unit.delegate(paths)
            starter.ensure(paths)  # the service's cgroup must not become empty
    with _telling():
        _start(paths)
    return 0


def _start(paths: Paths) -> None:
    from .. import network

    held = None
    while held is None:
        if not _work_left(paths):
            return
        held = lock.attempt(paths.run, who="init", action="boot")
        if held is None:
            time.sleep(_LOOK_SECONDS)
    try:
        with _telling():
            network.restore(paths)
        names = [name for name in client.names(paths) if together.due(paths, name)]
        _tell(together.start(paths, names))
    finally:
        held.release()


def shutdown(paths: Paths) -> int:
    """Stop all containers, each with its own grace period, and then what hostctl itself has running.

    A run that holds the lock is waited for, but not for ever: it ends with the host, too.
    """
    with _telling():
        _stop(paths)
    return 0


def _stop(paths: Paths) -> None:
    deadline = time.monotonic() + _SHUTDOWN_WAIT
    held = lock.attempt(paths.run, who="init", action="shutdown")
    while held is None and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        held = lock.attempt(paths.run, who="init", action="shutdown")
    try:
        failures = together.stop(paths, client.names(paths))
        _tell(failures)
        if not failures:
            starter.end(paths)
    finally:
        if held is not None:
            held.release()


def _work_left(paths: Paths) -> bool:
    from .. import network

    if any(together.due(paths, name) for name in client.names(paths)):
        return True
    return network.is_missing(paths)


def _tell(failures: together.Failures) -> None:
    for name in sorted(failures):
        _say(failures[name])


@contextmanager
def _telling() -> Iterator[None]:
    """What fails is said, and the rest goes on."""
    try:
        yield
    except Exception as error:
        _say(error)


def _say(error: Exception) -> None:
    if isinstance(error, HostctlError):
        text = error.message + (f"; {error.hint}" if error.hint else "")
    else:
        text = f"{type(error).__name__}: {error}"
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
