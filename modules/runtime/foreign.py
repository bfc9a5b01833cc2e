"""Runs on the managed host, in the container's first process: a mount of another container, for a bind.

A mount is given away by its own mount namespace only (open_tree(2)): it is entered for that one call.
"""

from __future__ import annotations

import os

from . import syscalls as sys


def open_tree(source: str, flags: int) -> int:
    """The tree at /proc/PID/root/PATH, which only that process' own mount namespace gives away."""
    _, _, pid, _, path = source.split("/", 4)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        sys.setns(other, sys.CLONE_NEWNS)
        try:
            return sys.open_tree("/" + path, flags)
        finally:
            sys.setns(own, sys.CLONE_NEWNS)
    finally:
        os.close(own)
        os.close(other)
