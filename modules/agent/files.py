"""Runs on the managed host: the way files are written: temp beside it, fsync, rename."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from ..contract.errors import HostctlError


def write_atomic(
    path: str,
    data: bytes,
    mode: int = 0o600,
    uid: int = -1,
    gid: int = -1,
    *,
    sync: bool = True,
    sweep: bool = True,
) -> None:
    """Replace `path` so that a reader or a crash sees the old or the new bytes, never less.

    Owner and mode are set before the name appears. Raises OSError; the temp file is removed then, and
    so is one that a killed writer of the same file left.

    Args:
        sync: False where a power cut may bring the old bytes back; a later synced write beside it decides.
        sweep: False in a folder that is known to be fresh.
    """
    folder, name = os.path.split(path)
    prefix = f".{name[:200]}.hostctl-"
    if sweep:
        _sweep(folder, prefix)
    temp = os.path.join(folder, f"{prefix}{os.getpid()}-{os.urandom(4).hex()}")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
            if (uid, gid) != (-1, -1):
                os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        os.rename(temp, path)
    except BaseException:
        if os.path.lexists(temp):
            os.unlink(temp)
        raise


def _sweep(folder: str, prefix: str) -> None:
    """Remove temp files whose writer is dead."""
    for entry in os.listdir(folder or "."):
        if entry.startswith(prefix):
            pid = entry[len(prefix) :].partition("-")[0]
            if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                try:
                    os.unlink(os.path.join(folder, entry))
                except FileNotFoundError:
                    pass


def private_folder(path: str) -> None:
    """Make a folder and its missing parents, all 0700 whatever the umask."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        private_folder(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass


def to_json(value: Any) -> bytes:
    """A JSON value as a file holds it: keys sorted, one line."""
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def write_json(path: str, value: Any, mode: int = 0o600, *, sync: bool = True) -> None:
    """`write_atomic` of a JSON value."""
    write_atomic(path, to_json(value), mode, sync=sync)


def sync_together(paths: Iterable[str]) -> None:
    """fsync files that were written without.

    All are on their way to the disk before the first is waited for, so that one commit of the file
    system's journal takes them all (posix_fadvise(2): DONTNEED begins to write what is dirty).
    """
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
            os.posix_fadvise(fds[-1], 0, 0, os.POSIX_FADV_DONTNEED)
        for fd in fds:
            os.fsync(fd)
    finally:
        for fd in fds:
            os.close(fd)


def read_json(path: str) -> Any:
    """The JSON value in the file, or None where there is no such file.

    Raises:
        HostctlError: it is no JSON: files are replaced in one step, so something else has written there.
    """
    try:
        with open(path, "rb") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise HostctlError(
            f"cannot read {path}: it is damaged: {error}",
            hint="bring it back from a backup; one that belongs to a container can be removed with its folder",
            ref="damaged-record",
        ) from error
