"""Runs on the managed host: order and parallelism of things that need each other. Knows nothing of kinds."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Callable

WORKERS = 24
"""Most of them wait: for a registry, for a container's first moments, for its end."""


def in_order(names: Sequence[str], needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The names so that each comes after what it needs, otherwise as given. Needs outside are ignored.

    Names on a cycle are left out.
    """
    inside = set(names)
    waits = {name: {n for n in needs.get(name, ()) if n in inside} for name in names}
    ordered: list[str] = []
    done: set[str] = set()
    pending = list(names)
    while pending:
        ready = [name for name in pending if waits[name] <= done]
        if not ready:
            break
        # One at a time would be quadratic in a long list; a whole rank keeps the given order.
        ordered += ready
        done.update(ready)
        pending = [name for name in pending if name not in done]
    return ordered


def run_graph(
    ordered: Sequence[str],
    needs: Mapping[str, Sequence[str]],
    work: Callable[[str], None],
    workers: int = WORKERS,
) -> None:
    """Call `work` for every name when all that it needs has returned, beside each other where possible.

    `work` handles its own failures; what it raises ends the run once the others in flight have returned.
    """
    if workers <= 1 or len(ordered) <= 1:
        for name in ordered:
            work(name)
        return
    _Pool(ordered, needs, work).run(min(workers, len(ordered)))


class _Pool:
    def __init__(
        self,
        ordered: Sequence[str],
        needs: Mapping[str, Sequence[str]],
        work: Callable[[str], None],
    ) -> None:
        inside = set(ordered)
        self._waits = {name: {n for n in needs.get(name, ()) if n in inside} for name in ordered}
        self._left = list(ordered)
        self._running = 0
        self._work = work
        self._error: BaseException | None = None
        self._turn = threading.Condition()

    def run(self, workers: int) -> None:
        threads = [threading.Thread(target=self._loop, daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _loop(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(self._may_go)
                name = self._next()
                if name is None:
                    return
                self._running += 1
            try:
                self._work(name)
            except BaseException as error:
                with self._turn:
                    self._error = error
            with self._turn:
                self._running -= 1
                for waits in self._waits.values():
                    waits.discard(name)
                self._turn.notify_all()

    def _may_go(self) -> bool:
        """Something is ready, or nothing ever will be."""
        return (
            self._error is not None
            or not self._left
            or self._running == 0
            or any(not self._waits[name] for name in self._left)
        )

    def _next(self) -> str | None:
        if self._error is not None:
            return None
        for name in self._left:
            if not self._waits[name]:
                self._left.remove(name)
                return name
        return None
