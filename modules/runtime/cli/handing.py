"""Runs on the managed host: what a verb hands to its caller, and takes from it: pid files, terminals,
descriptors."""

from __future__ import annotations

import fcntl
import os

from ..config import RuntimeFailure
from .options import Options, usage


def write_pid(options: Options, pid: int) -> None:
    """The file of --pid-file: whole as soon as it is there."""
    path = options.text("pid-file")
    if not path:
        return
    temp = f"{path}.{os.getpid()}"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(temp, path)


def check_terminal(options: Options, *, wanted: bool, detached: bool) -> None:
    """Raises RuntimeFailure where the terminal's master side would have nobody who takes it, or the reverse."""
    path = options.text("console-socket")
    if wanted and detached and not path:
        raise usage(
            "a terminal of a program in the background needs somebody: use --console-socket"
        )
    if path and not (wanted and detached):
        raise usage("--console-socket is for a terminal of a program in the background")


def own_size() -> tuple[int, int]:
    """Rows and columns of the caller's terminal; 0 where it has none."""
    if not os.isatty(0):
        return 0, 0
    size = os.get_terminal_size(0)
    return size.lines, size.columns


def send_terminal(path: str, master: int) -> None:
    """Give the master side to whoever listens at --console-socket, and let go of it."""
    import array
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(10)
            peer.connect(path)
            fds = array.array("i", [master])
            peer.sendmsg([b"/dev/ptmx"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    except OSError as error:
        raise RuntimeFailure(
            f"cannot hand the terminal over at {path}: {error.strerror or error}",
            ref="console-socket",
        ) from error
    finally:
        os.close(master)


def preserved(options: Options) -> list[int]:
    """The caller's descriptors for the program: as many from 3 on as --preserve-fds and LISTEN_FDS say."""
    count = options.number("preserve-fds") + listen_fds()
    return [fd for fd in range(3, 3 + count) if _inherited(fd)]


def listen_fds() -> int:
    """How many sockets systemd handed to this process (sd_listen_fds(3)), whoever it said they are for."""
    text = os.environ.get("LISTEN_FDS", "")
    return int(text) if text.isdigit() else 0


def listen_environment() -> list[str]:
    """What tells the program about them: it is process 1 of its container."""
    if not listen_fds():
        return []
    names = os.environ.get("LISTEN_FDNAMES", "")
    return [
        f"LISTEN_FDS={listen_fds()}",
        "LISTEN_PID=1",
        *([f"LISTEN_FDNAMES={names}"] if names else []),
    ]


def _inherited(fd: int) -> bool:
    try:
        return not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:
        return False
