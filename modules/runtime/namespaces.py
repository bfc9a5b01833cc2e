"""Runs on the managed host: the container's namespaces: which are new, which are joined by path.

`linux.namespaces` of config.json. A kind that is not listed stays the host's.
Source: namespaces(7), time_namespaces(7), ioctl_ns(2), OCI runtime-spec 1.2 config-linux.md.
"""

from __future__ import annotations

import fcntl
import os

from . import syscalls
from .config import Config, RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

KINDS = {
    "cgroup": (syscalls.CLONE_NEWCGROUP, "cgroup"),
    "ipc": (syscalls.CLONE_NEWIPC, "ipc"),
    "mount": (syscalls.CLONE_NEWNS, "mnt"),
    "network": (syscalls.CLONE_NEWNET, "net"),
    "pid": (syscalls.CLONE_NEWPID, "pid"),
    "time": (syscalls.CLONE_NEWTIME, "time"),
    "user": (syscalls.CLONE_NEWUSER, "user"),
    "uts": (syscalls.CLONE_NEWUTS, "uts"),
}
_CLOCKS = ("monotonic", "boottime")
_NS_GET_NSTYPE = 0xB703


class Namespaces:
    """What `prepare` found.

    Attributes:
        new: kinds that are the container's own.
        joined: kinds joined through an open namespace file.
        offsets: lines for /proc/PID/timens_offsets.
    """

    def __init__(self, new: frozenset[str], joined: dict[str, int], offsets: str = "") -> None:
        self.new = new
        self.joined = joined
        self.offsets = offsets

    def private(self, kind: str) -> bool:
        """Whether the container does not share this kind with the host."""
        return kind in self.new or kind in self.joined

    @property
    def in_two_steps(self) -> bool:
        """Whether one clone cannot lead into all of them: see `forerunner`."""
        return self.private("user") or "time" in self.new


def prepare(config: Config) -> Namespaces:
    """Parse, refuse what is impossible, and open the paths to join while they are the host's."""
    linux = config.get("linux") or {}
    new: set[str] = set()
    paths: dict[str, str] = {}
    for entry in linux.get("namespaces") or ():
        kind = entry["type"]
        if kind not in KINDS:
            _refuse(
                f"there is no {kind} namespace",
                f"linux.namespaces knows {', '.join(KINDS)}",
            )
        if kind in new or kind in paths:
            _refuse(f"two {kind} namespaces are listed", "remove one of linux.namespaces")
        if entry.get("path"):
            paths[kind] = str(entry["path"])
        else:
            new.add(kind)
    if "mount" not in new and "mount" not in paths:
        _refuse(
            "without a mount namespace its mounts would be the host's",
            'add {"type": "mount"} to linux.namespaces',
        )
    offsets = _offsets(linux.get("timeOffsets") or {}, "time" in new)
    return Namespaces(frozenset(new), _open(paths), offsets)


def _offsets(wanted: dict[str, Any], new: bool) -> str:
    if wanted and not new:
        _refuse(
            "linux.timeOffsets need a time namespace of its own",
            'add {"type": "time"} to linux.namespaces, or remove the offsets',
        )
    lines = ""
    for clock, offset in wanted.items():
        if clock not in _CLOCKS:
            _refuse(f"the clock {clock} has no offset", f"there are {' and '.join(_CLOCKS)}")
        seconds, nanoseconds = offset.get("secs") or 0, offset.get("nanosecs") or 0
        if not 0 <= nanoseconds < 1_000_000_000:
            _refuse(f"the nanosecs of {clock} are {nanoseconds}", "they are 0 to 999999999")
        lines += f"{clock} {int(seconds)} {int(nanoseconds)}\n"
    return lines


def _open(paths: dict[str, str]) -> dict[str, int]:
    joined: dict[str, int] = {}
    try:
        for kind, path in paths.items():
            if not path.startswith("/"):
                _refuse(f"the path {path} of the {kind} namespace is relative", "make it absolute")
            joined[kind] = _open_one(kind, path)
    except BaseException:
        for fd in joined.values():
            os.close(fd)
        raise
    return joined


def _open_one(kind: str, path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFailure(
            f"cannot join the {kind} namespace {path}: {error.strerror}", ref="no-namespace"
        ) from error
    try:
        found = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        found = 0
    if found != KINDS[kind][0]:
        os.close(fd)
        actual = next((name for name, (flag, _) in KINDS.items() if flag == found), "no")
        raise RuntimeFailure(
            f"cannot join the {kind} namespace {path}: it is {actual} namespace",
            hint=f"give the path of one, such as /proc/PID/ns/{KINDS[kind][1]}",
            ref="no-namespace",
        )
    return fd


def _refuse(what: str, hint: str) -> NoReturn:
    raise RuntimeFailure(f"cannot create the container: {what}", hint=hint, ref="bad-namespace")


def clone(namespaces: Namespaces, *, sibling: bool = False, cgroup: int = -1) -> int:
    """Fork into the new namespaces: the child's pid, or 0 in the child.

    With `cgroup`, the descriptor of one of version 2, the child is born there if the kernel can do that.
    With `sibling` the caller's own parent becomes the parent, and has to reap it.

    The cgroup namespace is not among them: its root is the cgroup in which it is made, so the child
    makes it (`enter_cgroup`) once the parent has moved it. A pid namespace can only be joined for
    children, hence the parent's detour through it.
    """
    flags = syscalls.CLONE_PARENT if sibling else 0
    for kind in namespaces.new - {"cgroup", "user", "time"}:
        flags |= KINDS[kind][0]
    pid_namespace = namespaces.joined.get("pid")
    if pid_namespace is None:
        return syscalls.clone(flags, cgroup)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    pid = -1
    try:
        syscalls.setns(pid_namespace, syscalls.CLONE_NEWPID)
        try:
            pid = syscalls.clone(flags, cgroup)
        finally:
            # Not in the child: there is no way back up from where it is.
            if pid != 0:
                syscalls.setns(own, syscalls.CLONE_NEWPID)
    finally:
        os.close(own)
    return pid


def enter(namespaces: Namespaces) -> None:
    """Child: join what is joined by path, except pid (done by clone) and cgroup (done later).

    The mount namespace comes last: with it the folders of before are gone.
    """
    for kind in sorted(namespaces.joined, key="mount".__eq__):
        if kind not in ("pid", "cgroup"):
            syscalls.setns(namespaces.joined[kind], KINDS[kind][0])


def enter_cgroup(namespaces: Namespaces) -> None:
    """Child, after its parent moved it into its cgroup."""
    if "cgroup" in namespaces.new:
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)
    elif "cgroup" in namespaces.joined:
        syscalls.setns(namespaces.joined["cgroup"], syscalls.CLONE_NEWCGROUP)


def release(namespaces: Namespaces) -> None:
    """Parent: close the files. The namespaces themselves end with their last process."""
    while namespaces.joined:
        os.close(namespaces.joined.popitem()[1])
