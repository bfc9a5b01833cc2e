"""Runs on the managed host: the container's namespaces: which are new, which are joined by path.

`linux.namespaces` of config.json. A kind that is not listed stays the host's.
"""

from __future__ import annotations

import os

from . import syscalls
from .config import Config, RuntimeFailure

KINDS = {
    "cgroup": (syscalls.CLONE_NEWCGROUP, "cgroup"),
    "ipc": (syscalls.CLONE_NEWIPC, "ipc"),
    "mount": (syscalls.CLONE_NEWNS, "mnt"),
    "network": (syscalls.CLONE_NEWNET, "net"),
    "pid": (syscalls.CLONE_NEWPID, "pid"),
    "uts": (syscalls.CLONE_NEWUTS, "uts"),
}


class Namespaces:
    """What `prepare` found: kinds that are new, and kinds joined through an open namespace file."""

    def __init__(self, new: frozenset[str], joined: dict[str, int]) -> None:
        self.new = new
        self.joined = joined

    def private(self, kind: str) -> bool:
        """Whether the container does not share this kind with the host."""
        return kind in self.new or kind in self.joined


def prepare(config: Config) -> Namespaces:
    """Parse, refuse what is impossible, and open the paths to join while they are the host's."""
    new: set[str] = set()
    paths: dict[str, str] = {}
    for entry in (config.get("linux") or {}).get("namespaces") or ():
        kind = entry["type"]
        if kind not in KINDS:
            raise RuntimeFailure(
                f"cannot create the container: {kind} namespaces are not supported yet",
                ref="not-supported",
            )
        if kind in new or kind in paths:
            raise RuntimeFailure(
                f"cannot create the container: two {kind} namespaces are listed",
                ref="bundle-broken",
            )
        if entry.get("path"):
            paths[kind] = entry["path"]
        else:
            new.add(kind)
    if "mount" not in new:
        raise RuntimeFailure(
            "cannot create the container without a mount namespace of its own", ref="not-supported"
        )
    joined: dict[str, int] = {}
    for kind, path in paths.items():
        try:
            joined[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            for fd in joined.values():
                os.close(fd)
            raise RuntimeFailure(
                f"cannot join the {kind} namespace {path}: {error.strerror}", ref="no-namespace"
            ) from error
    return Namespaces(frozenset(new), joined)


def clone(namespaces: Namespaces, *, sibling: bool = False, cgroup: int = -1) -> int:
    """Fork into the new namespaces: the child's pid, or 0 in the child.

    With `cgroup`, the descriptor of one of version 2, the child is born there if the kernel can do that.
    With `sibling` the caller's own parent becomes the parent, and has to reap it.

    The cgroup namespace is not among them: its root is the cgroup in which it is made, so the child
    makes it (`enter_cgroup`) once the parent has moved it. A pid namespace can only be joined for
    children, hence the parent's detour through it.
    """
    flags = syscalls.CLONE_PARENT if sibling else 0
    for kind in namespaces.new - {"cgroup"}:
        flags |= KINDS[kind][0]
    pid_namespace = namespaces.joined.get("pid")
    if pid_namespace is None:
        return syscalls.clone(flags, cgroup)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(pid_namespace, syscalls.CLONE_NEWPID)
        try:
            return syscalls.clone(flags, cgroup)
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWPID)
    finally:
        os.close(own)


def enter(namespaces: Namespaces) -> None:
    """Child: join what is joined by path, except pid (done by clone) and cgroup (done later)."""
    for kind, fd in namespaces.joined.items():
        if kind not in ("pid", "cgroup"):
            syscalls.setns(fd, KINDS[kind][0])


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
