"""Runs on the managed host, in the parent: how a container's first process comes to be, in one step or two."""

from __future__ import annotations

import os
import select

from . import cgroup, forerunner, idmap, mounts, namespaces
from . import syscalls as sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .container import Plan
    from .handshake import Handshake

_BORN = "born"


class Birth:
    """The parent's side of a first process: what it holds until that one lives, and how it is undone.

    Attributes:
        pid: the first process; 0 until it is known.
        child: a process that may have to be ended.
        ahead: a forerunner has done, or does, what needs the host's rights.
        users: descriptors of user namespaces: the container's own under "user", others by their mapping.
    """

    def __init__(self, plan: Plan, sibling: bool) -> None:
        self.plan = plan
        self.cgroup: cgroup.Cgroup | None = None
        self.pid = self.child = 0
        self.ahead = plan.namespaces.in_two_steps
        self.hooked = False
        self.users: dict[object, int] = {}
        self._sibling = sibling

    def prepare(self, stdio: Sequence[int]) -> None:
        """Make the user namespaces that are needed, and give its pipes to who will reopen them by name."""
        self.users = mounts.make(self.plan.mounts)
        mapping = self.plan.mapping
        if "user" in self.plan.namespaces.joined:
            self.users["user"] = os.dup(self.plan.namespaces.joined["user"])
        elif mapping is not None:
            self.users["user"] = idmap.make(mapping)
        if mapping is not None:
            idmap.give(stdio, mapping, self.plan.process.uid, self.plan.process.gid)

    def clone(self, handshake: Handshake) -> bool:
        """True in the first process; on the parent's side, once it is there, False."""
        # One clone into all namespaces at once: half the time of unshare and a second fork.
        home = self.cgroup.open() if self.cgroup is not None else -1
        try:
            if self.ahead:
                self.child = sys.clone(sys.CLONE_PARENT if self._sibling else 0, home)
            else:
                spaces = self.plan.namespaces
                self.child = namespaces.clone(spaces, sibling=self._sibling, cgroup=home)
        finally:
            if home >= 0:
                os.close(home)
        if self.child == 0:
            if self.ahead:
                self._run_ahead(handshake)
            else:
                handshake.child()
            return True
        handshake.parent()
        if self.ahead:
            word, _ = handshake.receive()
            self.pid = int(word.partition(" ")[2])
            self._reap()
        self.child = self.pid = self.pid or self.child
        return False

    def _run_ahead(self, handshake: Handshake) -> None:
        """The forerunner. It returns in its child alone."""
        try:
            sys.prctl(sys.PR_SET_DUMPABLE, 0)
            handshake.child()
            pid = forerunner.step(self.plan, self.cgroup, self.users)
            if pid == 0:
                return
            handshake.send(f"{_BORN} {pid}")
        except BaseException as error:
            handshake.send_error(error)
        os._exit(0)

    def _reap(self) -> None:
        """Take the end of `child`, which is near; a sibling is our parent's to take, once we have ended."""
        if not self._sibling:
            os.waitpid(self.child, 0)
            return
        pidfd = sys.pidfd_open(self.child)
        _wait(pidfd)
        os.close(pidfd)

    def undo(self) -> None:
        """End what lives, and remove what was made."""
        if self.child:
            try:
                pidfd = sys.pidfd_open(self.child)
            except ProcessLookupError:
                pass
            else:
                kill(pidfd)
                os.close(pidfd)
                if not self._sibling:
                    os.waitpid(self.child, 0)
        if self.cgroup is not None:
            cgroup.release(self.cgroup)
        if self.hooked and self.plan.hooks is not None:
            self.plan.hooks.run_poststop()

    def close(self) -> None:
        """Let go of the namespaces; they end with the container."""
        for fd in self.users.values():
            os.close(fd)
        self.users = {}


def kill(pidfd: int) -> None:
    """End the first process, and with it all of its pid namespace; returns when it has ended."""
    try:
        sys.pidfd_send_signal(pidfd, 9)
    except ProcessLookupError:
        return
    _wait(pidfd)


def _wait(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(5000)
