"""Runs on the managed host: a container's own terminal: `process.terminal`.

It belongs to the container's devpts, which is why the first process makes it, once that is mounted; the
master side goes to the parent, which passes it on or keeps it.
Source: OCI runtime-spec 1.2 config.md, config-linux.md (/dev/console); ioctl_tty(2); pts(4).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios

from . import syscalls as sys
from . import targets
from .config import Config, RuntimeFailure, section

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_MAJOR = 5  # of /dev/ptmx and /dev/console


class Terminal:
    """Its size in characters; 0 for the kernel's own."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns


def prepare(config: Config) -> Terminal | None:
    """Parse `process.terminal` and `process.consoleSize`; None without a terminal."""
    if not config["process"].get("terminal"):
        return None
    size = section(config, "process", "consoleSize") or {}
    rows, columns = size.get("height", 0), size.get("width", 0)
    if not all(type(value) is int and 0 <= value < 1 << 16 for value in (rows, columns)):
        raise RuntimeFailure(
            "cannot create the container: process.consoleSize is no size",
            hint='write {"height": 24, "width": 80}',
            ref="bad-console-size",
        )
    return Terminal(rows, columns)


def enter_mounts(root: str) -> None:
    """Child: /dev/console is there to be mounted upon, before its file system becomes read-only."""
    os.close(_target(root))


def enter(terminal: Terminal, uid: int) -> int:
    """Child, inside its root: its stdio is the terminal from here on. The master side's descriptor."""
    master, slave = open_pair()
    if terminal.rows or terminal.columns:
        size = struct.pack("HHHH", terminal.rows, terminal.columns, 0, 0)
        fcntl.ioctl(master, termios.TIOCSWINSZ, size)
    _console(slave)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    if uid:
        os.fchown(slave, uid, -1)
    for fd in (0, 1, 2):
        os.dup2(slave, fd, inheritable=True)
    os.close(slave)
    return master


def open_pair() -> tuple[int, int]:
    """Inside the container: both sides of a new terminal of its devpts."""
    try:
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFailure(
            f"cannot make a terminal: /dev/ptmx: {error.strerror}",
            hint="mount a devpts at /dev/pts",
            ref="no-terminal",
        ) from error
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) != _MAJOR:
        raise RuntimeFailure("cannot make a terminal: /dev/ptmx is no terminal", ref="no-terminal")
    fcntl.ioctl(master, _TIOCSPTLCK, b"\0" * 4)
    return master, peer(master)


def peer(master: int) -> int:
    """The other side, whose name is none outside of the container."""
    return fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def _console(slave: int) -> None:
    """The terminal at /dev/console as well. A link of the image there would send it over something else."""
    target = _target("/")
    try:
        # By descriptors alone: there may be no /proc, and names may change meanwhile.
        tree = sys.open_tree("", sys.OPEN_TREE_CLONE | sys.AT_EMPTY_PATH, slave)
        try:
            sys.move_mount(tree, target)
        finally:
            os.close(tree)
    finally:
        os.close(target)


def _target(root: str) -> int:
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return targets.target_fd(folder, "/dev/console", folder=False, straight=True)
    except OSError as error:
        hint = "the image has a link there; remove it" if error.errno == errno.ELOOP else ""
        raise RuntimeFailure(
            f"cannot make /dev/console: {error.strerror}", hint=hint, ref="no-console"
        ) from error
    finally:
        os.close(folder)
