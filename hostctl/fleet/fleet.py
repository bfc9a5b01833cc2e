"""Runs on the controller: does one thing on many hosts at once; none of them can stop the others."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.report import Failure, HostReport, HostStatus

from .ahead import Ahead
from .ask import give_back_terminal
from .session import HostProgram, Options, Session, run_program
from .target import Target, Unreachable

T = TypeVar("T")
FORKS = 50
GRACE = 3.0


class Fleet(Generic[T]):
    """Runs a function on every target with at most `forks` threads.

    The function gets the target; the sessions that it opens with `session` end at Ctrl-C.

    Args:
        ahead: sessions that were opened before their turn.
    """

    def __init__(self, forks: int = FORKS, ahead: Ahead | None = None) -> None:
        self._forks = max(1, forks)
        self._ahead = ahead
        self._open: weakref.WeakSet[Session] = weakref.WeakSet()
        self._lock = threading.Lock()
        self.stopping = False

    def map(
        self, work: Callable[[Target], T], targets: Iterable[Target]
    ) -> dict[str, T | HostctlError]:
        """The results by host name, in the order of the targets; an error where it failed.

        Raises:
            KeyboardInterrupt: after all open sessions were closed.
        """
        wanted = list(targets)
        results: dict[str, T | HostctlError] = {}
        pending: queue.SimpleQueue[Target] = queue.SimpleQueue()
        for target in wanted:
            pending.put(target)

        def worker() -> None:
            while not self.stopping:
                try:
                    target = pending.get_nowait()
                except queue.Empty:
                    return
                try:
                    results[target.name] = work(target)
                except HostctlError as error:
                    results[target.name] = error
                except Exception as error:  # a bug on one host must not silence the others
                    results[target.name] = _unexpected(target, error)

        threads = [
            threading.Thread(target=worker, name=f"fleet-{number}", daemon=True)
            for number in range(min(self._forks, len(wanted)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            give_back_terminal()
            self.stop()
            deadline = time.monotonic() + GRACE
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            raise
        return {
            target.name: results[target.name] if target.name in results else _interrupted(target)
            for target in wanted
        }

    def session(self, target: Target, mode: str, options: Options) -> Session:
        """`Session.open`, closed when the fleet stops. Use it in a `with` statement."""
        if self.stopping:
            raise _interrupted(target)
        early = self._ahead.take(target) if self._ahead is not None else None
        session = early or Session.open(target, mode, options)
        with self._lock:
            self._open.add(session)
        return session

    def stop(self) -> None:
        """Close all sessions: the agents see the end of their input and stop."""
        self.stopping = True
        with self._lock:
            sessions = list(self._open)
        # a wedged host must not keep the others open
        closers = [threading.Thread(target=session.close, daemon=True) for session in sessions]
        for closer in closers:
            closer.start()
        deadline = time.monotonic() + GRACE
        for closer in closers:
            closer.join(max(0.0, deadline - time.monotonic()))


def run_hosts(
    programs: Iterable[tuple[Target, HostProgram]],
    mode: str,
    options: Options,
    on_event: Callable[[str, dict[str, Any]], None],
    forks: int = FORKS,
    ahead: Ahead | None = None,
) -> dict[str, HostReport]:
    """Plan or apply on many hosts; every host has a report, whatever became of it.

    Args:
        on_event: host name and frame; called from the hosts' threads.
        ahead: sessions of that mode that were opened before their turn.
    """
    by_name = {target.name: (target, program) for target, program in programs}
    docks = {name: getattr(program, "dock", None) for name, (_, program) in by_name.items()}
    # Hosts wait for each other's word: each must have its turn.
    fleet: Fleet[HostReport] = Fleet(len(by_name) if any(docks.values()) else forks, ahead)
    for dock in filter(None, docks.values()):
        dock.expect()

    def work(target: Target) -> HostReport:
        dock = docks[target.name]
        try:
            if dock is not None:
                dock.enter(target, options)
            with fleet.session(target, mode, options) as session:
                return run_program(
                    session,
                    by_name[target.name][1],
                    lambda frame: on_event(target.name, frame),
                    dock,
                )
        finally:
            if dock is not None:
                dock.leave()

    results = fleet.map(work, [target for target, _ in by_name.values()])
    return {
        name: failed_report(result) if isinstance(result, HostctlError) else result
        for name, result in results.items()
    }


def failed_report(error: HostctlError) -> HostReport:
    """The report of a host that got no further than this error (or these: a playbook's come together)."""
    status = HostStatus.UNREACHABLE if isinstance(error, Unreachable) else HostStatus.FAILED
    errors: Sequence[HostctlError] = getattr(error, "errors", (error,))
    return HostReport(status, failures=tuple(_failure(each) for each in errors))


def _failure(error: HostctlError) -> Failure:
    """Where it is in a playbook is part of the message; the host itself is named by the report."""
    place = f" ({error.where})" if ":" in error.where else ""
    return Failure("", error.message + place, error.hint)


def _interrupted(target: Target) -> Unreachable:
    return Unreachable(f"cannot start {target.name}: interrupted", ref="interrupted")


def _unexpected(target: Target, error: Exception) -> HostctlError:
    problem = HostctlError(
        f"cannot go on with {target.name}: {type(error).__name__}: {error}",
        where=target.name,
        hint="this is a bug in hostctl; run it with --debug and report it",
        ref="bug",
    )
    problem.__cause__ = error
    return problem
