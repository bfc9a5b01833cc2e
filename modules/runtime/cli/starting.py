"""Runs on the managed host: `start`."""

from __future__ import annotations

import os

from .. import container
from ..config import RuntimeFailure
from . import ending, records
from .options import Options, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context
    from .records import Record


def start(context: Context, options: Options, words: list[str]) -> int:
    """Execute the program of a created container."""
    if len(words) != 1:
        raise usage("exactly one container ID is needed")
    lock = records.find(context.root, words[0]).lock()
    folder = -1
    try:
        record = records.find(context.root, words[0])
        status = record.status()
        if status != records.CREATED:
            raise RuntimeFailure(
                f"cannot start container {record.id}: it is {status}, not created",
                hint="a container is started once; delete it, and create another one",
                ref="not-created",
            )
        folder = os.open(record.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        container.start(f"/proc/self/fd/{folder}/{os.path.basename(record.socket)}")
        os.unlink(record.socket)
        _tell(record)
    finally:
        os.close(lock)
        if folder >= 0:
            os.close(folder)
    return 0


def _tell(record: Record) -> None:
    """The poststart hooks. As the specification says: one that fails is the end of the container."""
    hooks = record.hooks()
    if hooks is None:
        return
    try:
        hooks.run("poststart")
    except RuntimeFailure:
        ending.end(record)
        raise


COMMANDS = {"start": (start, (), "ID", -1)}
