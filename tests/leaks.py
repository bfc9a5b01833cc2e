"""Runs on the test machine: what tests could leave behind on it, seen before and after them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

MARK = "HOSTCTL_TEST_SESSION"
"""Inherited by everything that a test starts: how its processes are told from others'."""


def mounts() -> set[str]:
    """The mount points of this machine's own mount namespace."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split(" ")[4] for line in lines}


def links() -> set[str]:
    """Network links."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def cgroups() -> set[str]:
    """Cgroups of hostctl and of the lab, in every hierarchy."""
    found = set()
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found |= {str(Path(folder, name)) for name in names if "hostctl" in f"{folder}/{name}"}
    return found


def processes() -> set[str]:
    """What was started by this session's tests and still runs, other than this process."""
    mark = f"{MARK}={os.environ.get(MARK)}".encode()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) == os.getpid():
                continue
            if mark in (process / "environ").read_bytes().split(b"\0"):
                words = (process / "cmdline").read_bytes().split(b"\0")
                found.add(f"{process.name}: {b' '.join(words).decode(errors='replace').strip()}")
        except OSError:
            continue  # it ended, or is the kernel's
    return found


SEEN: dict[str, Callable[[], set[str]]] = {
    "mounts": mounts,
    "links": links,
    "cgroups": cgroups,
    "processes": processes,
}


def snapshot() -> dict[str, set[str]]:
    """Everything that is there now."""
    return {name: look() for name, look in SEEN.items()}


def left(before: dict[str, set[str]], *, shared: bool) -> dict[str, list[str]]:
    """What is there now and was not before.

    Args:
        before: an earlier snapshot.
        shared: others test on this machine too; only processes can be told apart.
    """
    names = ["processes"] if shared else list(SEEN)
    found = {name: sorted(SEEN[name]() - before[name]) for name in names}
    return {name: items for name, items in found.items() if items}
