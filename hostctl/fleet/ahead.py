"""Runs on the controller: opens sessions while the playbook is still being compiled: a login takes longer.

The playbook may yet turn out to be wrong, and then nobody shall have been asked anything and no host have
been written to: a session that needs an answer or an upload is given up, and opened again when its turn comes.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hostctl_host.contract.errors import HostctlError

from .ask import Asker
from .launch import TooEarly
from .session import Options, Session
from .target import Target

SWITCH = 0.0005
"""Seconds until a thread that computes lets another answer the network; Python's default is ten times that."""


@dataclass
class _Opening:
    """A session on its way: `ended` once there is either one or the error."""

    target: Target
    ended: threading.Event = field(default_factory=threading.Event)
    session: Session | None = None
    error: HostctlError | None = None


class Ahead:
    """Sessions that are wanted soon. Use it in a `with` statement: what nobody took is closed at its end."""

    def __init__(self, mode: str, options: Options, forks: int) -> None:
        self._mode = mode
        self._options = replace(options, asker=_Silent(options.asker), uploads=False)
        self._forks = forks
        self._openings: dict[str, _Opening] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._interval = sys.getswitchinterval()

    def open(self, targets: Iterable[Target]) -> None:
        """Begin with the first of these, as many as may be open at once, each in a thread of its own."""
        first = [target for target, _ in zip(targets, range(self._forks), strict=False)]
        if any(target.connection == "ssh" for target in first):
            from . import ssh

            # Nothing goes out before it is there, and two threads that compute take twice as long.
            ssh.load()
            sys.setswitchinterval(SWITCH)
        for target in first:
            opening = self._openings[target.name] = _Opening(target)
            name = f"ahead-{target.name}"
            threading.Thread(target=self._work, args=(opening,), name=name, daemon=True).start()

    def take(self, target: Target) -> Session | None:
        """The target's session once it is open; None where it has to be opened now.

        Raises:
            Unreachable, HostctlError: as `Session.open`.
        """
        sys.setswitchinterval(
            self._interval
        )  # the compiler has ended: nobody computes beside it now
        with self._lock:
            opening = self._openings.pop(target.name, None)
        if opening is None:
            return None
        opening.ended.wait()
        if opening.target != target or isinstance(opening.error, TooEarly):
            if opening.session is not None:
                opening.session.close()
            return None
        if opening.error is not None:
            raise opening.error
        return opening.session

    def _work(self, opening: _Opening) -> None:
        try:
            opening.session = Session.open(opening.target, self._mode, self._options)
        except HostctlError as error:
            opening.error = error
        except Exception as error:  # a bug shows where the session is opened again
            opening.error = TooEarly(str(error))
        finally:
            opening.ended.set()
        if self._closed:
            self._close(opening)

    def _close(self, opening: _Opening) -> None:
        with self._lock:
            session, opening.session = opening.session, None
        if session is not None:
            with contextlib.suppress(OSError):
                session.close()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        """What is still on its way is closed by its own thread, which nobody waits for."""
        sys.setswitchinterval(self._interval)
        self._closed = True
        with self._lock:
            left = list(self._openings.values())
            self._openings.clear()
        for opening in left:
            if opening.ended.is_set():
                self._close(opening)


class _Silent(Asker):
    """Knows what the other was told already, and asks nothing."""

    def __init__(self, other: Asker) -> None:
        super().__init__(ssh_password=other.ssh_password, become_password=other.become_password)
        self._lock, self._answers = other._lock, other._answers

    def for_keys(self) -> Asker:
        other = _Silent(self)
        other.ssh_password = other.become_password = False
        return other

    def secret(self, prompt: str, variable: str = "") -> str:  # noqa: ARG002
        with self._lock:
            if prompt in self._answers:
                return self._answers[prompt]
        raise TooEarly(f"cannot ask for the {prompt.rstrip(': ')} yet")
