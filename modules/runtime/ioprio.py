"""Runs on the managed host: the I/O priority of the container's process.

Source: OCI runtime-spec 1.2 (config.md, ioPriority), ioprio_set(2).
"""

from __future__ import annotations

import os

from . import syscalls
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_SHIFT = 13


class IoPriority:
    """Class, and level in it: 0 is served first, 7 last."""

    def __init__(self, entry: dict[str, Any]) -> None:
        name, level = entry.get("class"), entry.get("priority") or 0
        if name not in CLASSES or not 0 <= int(level) <= 7:
            raise RuntimeFailure(
                f"cannot use I/O priority {name} {level}: unknown",
                hint=f"class is one of {', '.join(CLASSES)}, priority 0 to 7",
                ref="bad-io-priority",
            )
        self.name = f"{name} {level}"
        self.value = CLASSES[name] << _SHIFT | int(level)

    def enter(self) -> None:
        """Child, while it may still raise its priority."""
        try:
            syscalls.ioprio_set(self.value)
        except OSError as error:
            raise RuntimeFailure(
                f"cannot set I/O priority {self.name}: {os.strerror(error.errno or 0)}",
                ref="bad-io-priority",
            ) from error
