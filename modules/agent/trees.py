"""Runs on the managed host: removes a folder with all that is in it, whatever that is.

Its content may be a container's, and so as deep as somebody likes: no recursion, no long paths, and at most two
folders open. What a kill leaves is a smaller tree, for the next removal.
"""

from __future__ import annotations

import errno
import os

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: str) -> None:
    """Remove the folder; one that is not there is fine. No link in it is followed.

    Raises:
        NotADirectoryError: it is something else, also a link to a folder.
        OSError: something in it cannot be removed: it is mounted on, immutable, or on a read-only disk.
    """
    if _removed(path):
        return
    empty(path)
    os.rmdir(path)


def empty(path: str) -> None:
    """Remove all that is in the folder."""
    top = os.open(path, _FLAGS)
    try:
        _empty(top)
    finally:
        os.close(top)


def _empty(top: int) -> None:
    """Folders are moved up until each has nothing but files in it."""
    free = 0
    left = _unlinked(top)
    while left:
        name = left.pop()
        inner = os.open(name, _FLAGS, dir_fd=top)
        try:
            for folder in _unlinked(inner):
                if _removed(folder, inner):
                    continue
                free = _unused(top, free)
                new = f".{free}"
                os.rename(folder, new, src_dir_fd=inner, dst_dir_fd=top)
                left.append(new)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _unlinked(folder: int) -> list[str]:
    """Remove all files of a folder; the names of the folders in it."""
    with os.scandir(folder) as entries:
        listed = list(entries)
    found = []
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            found.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=folder)
    return found


def _removed(path: str, folder: int | None = None) -> bool:
    """Whether it was empty, as most folders are, or not there."""
    try:
        os.rmdir(path, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _unused(top: int, number: int) -> int:
    """A number above that one that names nothing there: the tree has names of its own."""
    while True:
        number += 1
        try:
            os.stat(f".{number}", dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return number
