"""Runs on the managed host: what the inventory says about all of the host, in small files of the data folder.

The last apply writes it down, for whoever has to know while no controller is there.
"""

from __future__ import annotations

import os


def keep(data: str, name: str, wanted: str) -> None:
    """Write down what the inventory says; empty: it says nothing, and the default holds."""
    if wanted == read(data, name):
        return
    path = os.path.join(data, name)
    if not wanted:
        os.unlink(path)
        return
    from .files import write_atomic

    os.makedirs(data, 0o700, exist_ok=True)
    write_atomic(path, wanted.encode(), 0o600)


def read(data: str, name: str) -> str:
    """What was written down; empty where nothing was said."""
    try:
        with open(os.path.join(data, name), encoding="ascii") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""
