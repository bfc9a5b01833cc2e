"""Runs on the managed host, in a container's first process: places inside the container's root.

The kernel resolves every path inside the root (openat2, RESOLVE_IN_ROOT): a link of an image leads
nowhere else, whenever it is made. What comes of it is a descriptor, and mounts are hung on that.
"""

from __future__ import annotations

import errno
import os
import stat

from . import syscalls as sys

RESOLVE = sys.RESOLVE_IN_ROOT | sys.RESOLVE_NO_MAGICLINKS
_LINKS = 40


def parent_fd(root_fd: int, path: str) -> tuple[int, str]:
    """A descriptor of the path's parent folder inside the root (made if missing), and the last name."""
    parent, name = os.path.split(os.path.normpath("/" + path).lstrip("/"))
    return target_fd(root_fd, parent, folder=True), name


def target_fd(
    root_fd: int, path: str, *, folder: bool, straight: bool = False, follow: bool = True
) -> int:
    """A descriptor of the path inside the root; folders, and at its end a file, are made if missing.

    What a link leads to is made inside the root as well. Without `follow` a link at the path's end is
    what is found. Raises OSError ELOOP where `straight` is asked for and a link is on the way.
    """
    resolve = RESOLVE | (sys.RESOLVE_NO_SYMLINKS if straight else 0)
    flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
    relative = os.path.normpath("/" + path).lstrip("/") or "."
    for _ in range(_LINKS):
        try:
            return sys.openat2(root_fd, relative, flags, 0, resolve)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        relative = _make(root_fd, relative, folder, resolve)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _make(root_fd: int, path: str, folder: bool, resolve: int) -> str:
    """Make what is missing of the path; where a link leads nowhere, the path to go on with instead."""
    parts = path.split("/")
    count = len(parts)
    while True:
        # Mostly only the last part is missing: the deepest folder that is there is looked for upwards.
        above = "/".join(parts[: count - 1]) or "."
        try:
            parent = sys.openat2(root_fd, above, os.O_PATH | os.O_DIRECTORY, 0, resolve)
        except OSError as error:
            if error.errno != errno.ENOENT or count == 1:
                raise
            count -= 1
            continue
        name = parts[count - 1]
        try:
            if folder or count < len(parts):
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.mknod(name, stat.S_IFREG | 0o644, dir_fd=parent)
        except FileExistsError:
            try:
                link = os.readlink(name, dir_fd=parent)
            except OSError:  # made by somebody else meanwhile
                link = ""
            if link:
                # Not normalised: `..` is of what the links before it lead to.
                start = link.lstrip("/") or "." if link.startswith("/") else f"{above}/{link}"
                return "/".join((start, *parts[count:]))
        finally:
            os.close(parent)
        if count == len(parts):
            return path
        count += 1
