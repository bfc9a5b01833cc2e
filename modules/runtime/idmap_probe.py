"""Runs on the managed host, in the agent: whether the kernel can show files to a user namespace as its own.

Tried, not told from a version: a file system may refuse it, and a kernel may have it taken back. All of
it happens in a process of its own, in a mount namespace that ends with it. Source: mount_setattr(2).
"""

from __future__ import annotations

import os
import shutil
import threading

from ..contract.users import USERS
from . import idmap, rootfs
from . import syscalls as sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

_TRIAL = [(0, 1 << 30, USERS)]
_lock = threading.Lock()
_known: dict[tuple[str, ...], bool] = {}


def folder(path: str) -> bool:
    """Whether a folder or file can be mounted with its owners mapped."""
    return _once(("folder", path), lambda: _map(path))


def layers(links: str, place: str) -> bool:
    """Whether an overlay can have mapped layers, and write as their owner.

    Args:
        links: the folder of layers.
        place: where upper folders of containers lie: another one beside them is made, and removed.
    """
    desk = os.path.join(place, "trial")
    key = ("layers", links, os.path.dirname(place))
    return _once(key, lambda: _overlay(links, desk), lambda: shutil.rmtree(desk, True))


def _once(
    key: tuple[str, ...], trial: Callable[[], None], clean: Callable[[], None] | None = None
) -> bool:
    with _lock:
        if key not in _known:
            _known[key] = _succeeds(trial)
            if clean is not None:
                clean()
        return _known[key]


def _succeeds(trial: Callable[[], None]) -> bool:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            sys.unshare(sys.CLONE_NEWNS)
            sys.mount(None, "/", None, sys.MS_PRIVATE | sys.MS_REC)
            trial()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def _map(path: str) -> None:
    userns = idmap.make(idmap.Mapping(_TRIAL, _TRIAL))
    idmap.apply(sys.open_tree(path, sys.OPEN_TREE_CLONE), userns, path)


def _overlay(links: str, desk: str) -> None:
    shutil.rmtree(desk, True)  # of a trial that was killed
    userns = idmap.make(idmap.Mapping(_TRIAL, _TRIAL))
    for part in ("root", "rw/upper", "rw/work"):
        os.makedirs(os.path.join(desk, part), 0o755)
    made = rootfs.Rootfs(os.path.join(desk, "root"), False, 0)
    made.cwd, made.layers = os.path.dirname(links), [os.path.basename(links)]
    made.upper, made.work = (os.path.join(desk, "rw", part) for part in ("upper", "work"))
    rootfs.lay(made, userns)
    with idmap.AsRoot(userns):
        os.mkdir(f"/proc/self/fd/{made.tree}/made")
    if os.stat(os.path.join(made.upper, "made")).st_uid != 0:
        raise OSError("the owner was not mapped")
