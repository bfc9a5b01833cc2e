"""Runs on the managed host: secrets and configs, as read-only files of a tmpfs that only the container has.

The values are read by the parent, which may; the child writes them, with their owners and modes, into a
tmpfs of its own mount namespace, and hangs each at its place. On the host a value stays where it was.
"""

from __future__ import annotations

import os

from ..contract import plainjson
from . import syscalls as sys
from .config import FILES, Config, RuntimeFailure, annotation
from .targets import target_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLAGS = sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC


class File:
    """One file of the container: its path there, its bytes, owner and mode."""

    def __init__(self, target: str, data: bytes, uid: int, gid: int, mode: int) -> None:
        self.target = target
        self.data = data
        self.uid = uid
        self.gid = gid
        self.mode = mode


def prepare(config: Config) -> list[File]:
    """Parent: read what the annotation names.

    Raises:
        RuntimeFailure: a value is not on this host: it was lost with a reboot.
    """
    wanted = annotation(config, FILES)
    return [_read(item) for item in plainjson.loads(wanted)] if wanted else []


def _read(item: dict[str, Any]) -> File:
    try:
        with open(item["source"], "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        raise RuntimeFailure(
            f"cannot start the container: the value of the {item['name']} is not on this host",
            hint="a reboot takes it away where it cannot be sealed; apply the playbook again",
            ref="secret-missing",
        ) from None
    return File(item["target"], data, item["uid"], item["gid"], item["mode"])


def enter(files: list[File], root: str) -> None:
    """Child, upon all other mounts: after this nothing can write to them, whatever its rights.

    The tmpfs lies over the root for that moment, because every container has that place.
    """
    if not files:
        return
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sys.mount("tmpfs", root, "tmpfs", _FLAGS, "mode=0700")
    top = _top(root, root_fd)
    above = f"/proc/self/fd/{top}"
    try:
        for index, file in enumerate(files):
            write(f"{above}/{index}", file)
        sys.mount(None, above, None, sys.MS_REMOUNT | sys.MS_RDONLY | _FLAGS)
        for index, file in enumerate(files):
            _bind(f"{above}/{index}", file.target, root_fd)
        sys.umount2(above, sys.MNT_DETACH)
    finally:
        os.close(top)
        os.close(root_fd)


def _top(root: str, root_fd: int) -> int:
    """A descriptor of what was just mounted over the root.

    A root that is known by its descriptor lies upon the host's, and a descriptor's name leads below the new
    mount. `..` of the root is the root again, with all that is mounted there.
    """
    for path in (root, "/.."):
        top = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not os.path.samestat(os.fstat(top), os.fstat(root_fd)):
            return top
        os.close(top)
    raise RuntimeFailure("cannot make room for secrets and configs", ref="mount-failed")


def write(path: str, file: File) -> None:
    """Make the file at a path of a tmpfs."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as stream:
        stream.write(file.data)
        stream.flush()
        os.fchown(fd, file.uid, file.gid)
        os.fchmod(fd, file.mode)


def _bind(source: str, target: str, root_fd: int) -> None:
    try:
        place = target_fd(root_fd, target, folder=False)
        try:
            sys.mount(source, f"/proc/self/fd/{place}", None, sys.MS_BIND)
        finally:
            os.close(place)
    except OSError as error:
        raise RuntimeFailure(
            f"cannot put a file at {target}: {os.strerror(error.errno or 0)}",
            hint="a secret or config is a file: choose a `target` where the image has no folder",
            ref="mount-failed",
        ) from error
