"""Runs on the managed host: paths that the container may not read, or not write."""

from __future__ import annotations

import os

from . import devices
from . import syscalls as sys
from .config import Config, RuntimeFailure


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
    for path in masks.readonly:
        if _there(path):
            sys.mount(path, path, None, sys.MS_BIND | sys.MS_REC)
            present = os.statvfs(path).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
            # These three bits have the same value as the flags of mount.
            sys.mount(None, path, None, sys.MS_BIND | sys.MS_REMOUNT | sys.MS_RDONLY | present)
    if masks.masked:
        _mask(masks.masked)


def _there(path: str) -> bool:
    """What cannot be looked at, such as a link to itself, may be something else later: it raises."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _mask(paths: list[str]) -> None:
    null = devices.open_null(os.O_PATH)
    try:
        for path in paths:
            if os.path.isdir(path):
                sys.mount("tmpfs", path, "tmpfs", sys.MS_RDONLY)
            elif _there(path):
                sys.mount(f"/proc/self/fd/{null}", path, None, sys.MS_BIND)
    finally:
        os.close(null)
