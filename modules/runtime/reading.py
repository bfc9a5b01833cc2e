"""Runs on the managed host: a small file's content, in as few system calls as the kernel takes.

A container's start reads a dozen; Python's own file objects make nine calls for each, this makes four.
"""

from __future__ import annotations

import os

_PART = 1 << 16


def content(path: str) -> bytes:
    """All bytes of the file, also of one in /proc. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = part = os.read(fd, _PART)
        while part:
            part = os.read(fd, _PART)
            data += part
        return data
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
