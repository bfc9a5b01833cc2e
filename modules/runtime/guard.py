"""Runs on the managed host: keeps containers from the host's Python interpreter.

A process that enters a container is this interpreter until it executes the container's program, and an
image can have it execute /proc/self/exe: whoever then opens that file for writing could replace what root
runs on the host (CVE-2019-5736). So whatever enters containers is executed through a mount of the
interpreter that is read-only and hangs nowhere: there is no path to it, and nothing that could change it.
"""

from __future__ import annotations

import os
import sys as interpreter

from . import syscalls as sys

_EXE = "/proc/self/exe"


def protected() -> bool:
    """Whether this process's own executable is out of reach."""
    if os.statvfs(_EXE).f_flag & os.ST_RDONLY:
        return True
    return os.readlink(_EXE).startswith("/memfd:") or os.geteuid() != 0


def executable() -> int:
    """A descriptor of the interpreter to be executed by (/proc/self/fd/N); -1 where that cannot be made.

    Before Linux 5.12 it is a copy in memory that is sealed.
    """
    path = os.path.realpath(_EXE)
    try:
        tree = sys.open_tree(path, sys.OPEN_TREE_CLONE)
        try:
            sys.mount_setattr("", sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NOSUID, dir_fd=tree)
        except OSError:
            os.close(tree)
            raise
        return tree
    except OSError:
        return _sealed(path)


def _sealed(path: str) -> int:
    from fcntl import fcntl

    # F_ADD_SEALS; SEAL, SHRINK, GROW, WRITE. Older Pythons lack the names.
    add_seals, seals = 1033, 0x1 | 0x2 | 0x4 | 0x8
    try:
        copy = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(path, "rb") as stream:
            while os.sendfile(copy, stream.fileno(), None, 1 << 20):
                pass
        fcntl(copy, add_seals, seals)
    except (OSError, AttributeError):
        return -1
    return copy


def ensure() -> None:
    """Begin anew, protected, unless this process is: only where a program starts, before anything is done."""
    if protected():
        return
    fd = executable()
    if fd < 0:
        return
    with open("/proc/self/cmdline", "rb") as stream:
        words = stream.read().split(b"\0")[:-1]
    # By its own path Python finds its library.
    os.execve(f"/proc/self/fd/{fd}", [os.fsencode(interpreter.executable), *words[1:]], os.environ)
