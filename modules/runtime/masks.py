"""Runs on the managed host: paths that the container may not read, or not write."""

from __future__ import annotations

import errno
import os

from . import devices
from . import syscalls as sys
from .config import Config, RuntimeFailure

_MISSING = (errno.ENOENT, errno.ENOTDIR)


class Masks:
    """Absolute paths in the container; those that are not there need nothing."""

    def __init__(self, masked: list[str], readonly: list[str]) -> None:
        self.masked = masked
        self.readonly = readonly


def prepare(config: Config) -> Masks:
    """Parse `linux.maskedPaths` and `linux.readonlyPaths`."""
    linux = config.get("linux") or {}
    found = Masks(list(linux.get("maskedPaths") or ()), list(linux.get("readonlyPaths") or ()))
    for path in (*found.masked, *found.readonly):
        if not path.startswith("/"):
            raise RuntimeFailure(
                f"cannot mask {path}, or make it read-only: the path is relative",
                hint="linux.maskedPaths and linux.readonlyPaths are absolute, as the container sees them",
                ref="bad-mask",
            )
    return found


def enter(masks: Masks) -> None:
    """Child, inside its root, as the last of the mounts."""
    # A path that is not there is no error. One that cannot be looked at, such as a link to itself, may be
    # something else later: it is.
    for path in masks.readonly:
        try:
            sys.mount(path, path, None, sys.MS_BIND | sys.MS_REC)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
            continue
        present = os.statvfs(path).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
        # These three bits have the same value as the flags of mount.
        sys.mount(None, path, None, sys.MS_BIND | sys.MS_REMOUNT | sys.MS_RDONLY | present)
    if masks.masked:
        null = devices.open_null(os.O_PATH)
        try:
            for path in masks.masked:
                _mask(path, f"/proc/self/fd/{null}")
        finally:
            os.close(null)


def _mask(path: str, null: str) -> None:
    try:
        sys.mount(null, path, None, sys.MS_BIND)
        return
    except OSError as error:
        if error.errno == errno.ENOENT:
            return
        if error.errno != errno.ENOTDIR:
            raise
    # A folder, upon which no file can be hung; or one of the names on the way is a file.
    try:
        sys.mount("tmpfs", path, "tmpfs", sys.MS_RDONLY)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
