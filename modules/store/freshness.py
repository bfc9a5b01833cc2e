"""Runs on the managed host: when the registry was asked last what a tag stands for (`pull_policy: daily`).

A tag that has been pulled says so itself. One that had not moved is noted at the end of an apply, in
`looked.json`: what is lost there costs one more question.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ..agent.files import read_json, write_json
from .staging import prepared
from .store import Image, Store


def due(store: Store, image: Image, seconds: float) -> bool:
    """Whether so many seconds have passed since the registry was asked about this tag."""
    if not seconds:
        return True
    last = max(image.tagged, (read_json(_path(store)) or {}).get(image.name, 0))
    return not last <= time.time() < last + seconds


def looked(store: Store, names: Iterable[str]) -> None:
    """The registry has been asked about these tags just now; those that are gone are forgotten."""
    with prepared(store):
        there = {image.name for image in store.images()}
        known = {name: at for name, at in (read_json(_path(store)) or {}).items() if name in there}
        known.update(dict.fromkeys(names, int(time.time())))
        write_json(_path(store), known)


def _path(store: Store) -> str:
    return os.path.join(store.root, "looked.json")
