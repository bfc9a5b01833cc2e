"""Runs on the managed host: `kill` and `delete`."""

from __future__ import annotations

import os
import select
import signal

from .. import cgroup, syscalls
from ..config import RuntimeFailure
from . import records
from .options import Option, Options, usage
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_REGEX = Option("-r --regex", "", "ID is a regular expression")
_KILL = (Option("-a --all", "", "to all processes of the container"), _REGEX)
_DELETE = (Option("-f --force", "", "end it first; it may also not be there"), _REGEX)


def kill(context: Context, options: Options, words: list[str]) -> int:
    """Send a signal, SIGTERM where none is named, to the first process or to all."""
    if not 1 <= len(words) <= 2:
        raise usage("a container ID is needed, and at most one signal")
    number = signal_number(words[1] if len(words) == 2 else "TERM")
    for identifier in _chosen(context, options, words[0]):
        _kill(records.find(context.root, identifier), number, everyone=options.on("all"))
    return 0


def _kill(record: Record, number: int, *, everyone: bool) -> None:
    if everyone:
        if record.cgroup_path:
            record.cgroup().signal(number)
        return
    pidfd = -1
    try:
        # The number may be another process's by now: the start time is looked at once it cannot change.
        pidfd = syscalls.pidfd_open(record.pid)
        if record.status() == records.STOPPED:
            raise ProcessLookupError
        syscalls.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise RuntimeFailure(
            f"cannot kill {record.id}: container not running", ref="not-running"
        ) from None
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def signal_number(text: str) -> int:
    """A number, or a name with or without SIG. Raises RuntimeFailure."""
    if text.lstrip("-").isdigit():
        number = int(text.lstrip("-"))
    else:
        name = text.upper() if text.upper().startswith("SIG") else "SIG" + text.upper()
        base, plus, offset = name.partition("+")
        number = int(getattr(signal, base, 0)) if not base.startswith("SIG_") else 0
        if plus and number:
            number += int(offset) if offset.isdigit() else signal.NSIG
    if not 0 <= number < signal.NSIG:
        number = -1
    if number < 0 or (number == 0 and text != "0"):
        raise usage(f"unknown signal {text!r}")
    return number


def delete(context: Context, options: Options, words: list[str]) -> int:
    """Remove a container that has ended, or was only created; with --force any."""
    if len(words) != 1:
        raise usage("exactly one container ID is needed")
    force = options.on("force")
    for identifier in _chosen(context, options, words[0]):
        try:
            _delete(context, identifier, force=force)
        except RuntimeFailure as error:
            # Not there, or gone while this waited for whoever was removing it.
            if not force or error.ref != "no-container":
                raise
    return 0


def _delete(context: Context, identifier: str, *, force: bool) -> None:
    lock = records.find(context.root, identifier).lock()
    try:
        record = records.find(context.root, identifier)
        status = record.status()
        if status not in (records.STOPPED, records.CREATED) and not force:
            raise RuntimeFailure(
                f"cannot delete container {record.id} that is not stopped: {status}",
                hint=f"delete --force {record.id} ends it first",
                ref="still-running",
            )
        remove(context, record)
    finally:
        os.close(lock)


def remove(context: Context, record: Record) -> None:
    """End whatever is left of it, and remove all that is its. Can be repeated after a kill at any instant."""
    end(record)
    hooks = record.hooks() if record.pid else None
    for failure in hooks.run_poststop() if hooks else ():
        context.log("warning", str(failure))
    record.remove()


def take_back(record: Record) -> None:
    """The same for one that could not be made."""
    end(record)
    record.remove()


def end(record: Record) -> None:
    """End all its processes, and remove its cgroup; twice is fine."""
    _end_first(record)
    if record.cgroup_path:
        cgroup.release(record.cgroup())
        if record.unit:
            from . import systemd

            systemd.stop(record.unit)
        if record.cgroup_path == cgroup.container_path(record.root, record.id):
            cgroup.prune(record.root)


def _end_first(record: Record) -> None:
    """Its end is the end of all in its pid namespace."""
    if not record.pid or not record.alive:
        return
    try:
        pidfd = syscalls.pidfd_open(record.pid)
    except OSError:
        return
    try:
        if record.alive:
            syscalls.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if record.cgroup_path and not poll.poll(50):
                # Frozen processes of version 1 do not even react to KILL; this lets them go on.
                record.cgroup().kill()
            poll.poll(10_000)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _chosen(context: Context, options: Options, text: str) -> list[str]:
    if not options.on("regex"):
        return [text]
    import re

    try:
        pattern = re.compile(text)
    except re.error as error:
        raise usage(f"{text!r} is no regular expression: {error}") from error
    return [name for name in records.identifiers(context.root) if pattern.match(name)]


COMMANDS = {
    "kill": (kill, _KILL, "ID [SIGNAL]", -1),
    "delete": (delete, _DELETE, "ID", -1),
}
