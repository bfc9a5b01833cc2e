"""Runs on the managed host: the mounts of a process's mount namespace, as proc_pid_mountinfo(5) lists them.

Users who may mount something choose names of folders: any bytes but NUL, of which only space, tab, newline,
backslash and # are written otherwise. So nothing else separates lines and fields.
"""

from __future__ import annotations

from .reading import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Mount:
    """One of them: `device` is MAJOR:MINOR, `flags` are the mount's, `options` those of the file system."""

    def __init__(self, device: str, path: str, flags: str, type: str, options: str) -> None:
        self.device = device
        self.path = path
        self.flags = flags.split(",")
        self.type = type
        self.options = options.split(",")


def read(file: str = "/proc/self/mountinfo") -> Iterator[Mount]:
    """All mounts, in the order in which they were made. Raises OSError."""
    text = content(file).decode("utf-8", "surrogateescape")
    for line in text.split("\n"):
        left, _, right = line.partition(" - ")
        if right:
            _, _, device, _, path, flags, *_ = left.split(" ")
            kind, _, options = right.split(" ", 2)
            yield Mount(device, _unescape(path), flags, kind, options)


def _unescape(text: str) -> str:
    """Some letters are written as three octal digits."""
    head, *rest = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
