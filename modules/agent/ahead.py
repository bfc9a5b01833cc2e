"""Runs on the managed host: imports what will be needed while the controller's first frame is on its way."""

from __future__ import annotations

import importlib
import os

from .channel import Channel
from .host import Paths

_PACKAGE = __package__.rpartition(".")[0]
RUNS = (
    "container",
    "image",
    "network",
    "store.store",
    "monitor.client",
    "runtime.needs",
    "runtime.lifecycle",
    "net.firewall",
    "net.addresses",
)
CALLS = ("monitor.verbs", "monitor.exec")


def import_ahead(names: tuple[str, ...], paths: Paths, channel: Channel) -> None:
    """Import these on a host that has had containers, until the frame is there."""
    if not os.path.isdir(os.path.join(paths.data, "containers")):
        return
    for name in names:
        if channel.has_arrived():
            return
        importlib.import_module(f"{_PACKAGE}.{name}")
