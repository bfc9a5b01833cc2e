"""Runs on the managed host, in short-lived children of a monitor: acts on its log, and on who is attached.

See `steps` for what an act is.
"""

from __future__ import annotations

import os

from . import apart, attached, limit, rotation
from .apart import Answer
from .place import Place, told


@told
def rotate(place: Place, size: int = 0) -> Answer:
    """Put a new file behind the log's descriptor; with a size only if that is reached."""
    settings = place.settings()
    if not rotation.rotate(place.log_folder, settings, place.paths(), size):
        return b"kept", {}
    return b"rotated", {apart.LOG: rotation.opened(place.log_folder, settings)}


def grown(line: bytes) -> None:
    """The log has grown: all together may be above their limit. In a process of its own, as `serving.probe`."""
    os.close(apart.LOCK)
    os.close(apart.CONTROL)
    with limit.rotating(Place(line).paths()):
        pass  # whoever has looked at it leaves it within the limit


@told
def attach(place: Place, number: int) -> Answer:
    """Somebody attaches, and waits for a connection: the word is `a`, and the descriptors of all who are there then."""
    taps = bytes(fd for fd in apart.TAPS if attached.listens(fd))
    free = [fd for fd in apart.TAPS if fd not in taps]
    path = os.path.join(place.folder(), attached.name(number))
    try:
        if not free:
            attached.refuse(path)
            return b"a" + taps, {}
        return b"a" + taps + bytes(free[:1]), {free[0]: attached.connect(path, _input(place))}
    except OSError:
        return b"a" + taps, {}  # it has gone


def _input(place: Place) -> int:
    """Where the container reads from; -1 where nobody can tell it anything."""
    settings = place.settings()
    if settings.tty:
        return apart.STDOUT
    if not settings.stdin_open:
        return -1
    path = os.path.join(place.folder(), "stdin")
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
