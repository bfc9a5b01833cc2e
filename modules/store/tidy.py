"""Runs on the managed host: old images go by themselves, after an apply and before a pull that would not fit.

What goes: what builds have not used for 14 days; images without a name, and tags that a project has declared once,
when neither a container nor one of the last releases of a service needs them. Where the disk is nearly full, what
builds have not used for a day goes, then unneeded tags that nobody declared, the oldest first; those of the last day
stay, because somebody may be about to use them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ..contract.reference import canonical_name
from .collect import collect
from .needed import Needed, needed
from .parts import sweep_parts
from .policy import policy
from .staging import prepared
from .store import Store

_FRESH = 86400


def tidy(data: str, undeclared: Iterable[str] = ()) -> list[str]:
    """Remove what is old.

    Args:
        data: the data folder.
        undeclared: tags that a project brought and no longer declares.
    Returns:
        Those of `undeclared` that are gone now.
    Raises:
        HostctlError: `damaged-record`: it cannot be told what is needed; nothing was removed.
    """
    from ..build import keeping

    store = Store(data)
    who = needed(data)
    keeping.tidy(data)
    gone = []
    for name in map(canonical_name, undeclared):
        image = store.image(name)
        if image is None or not who.needs(name, image.image_id):
            store.untag(name)
            gone.append(name)
    collect(store, who.ids)
    make_room(store, policy(data).free, who)
    return gone


def make_room(store: Store, wanted: int, who: Needed | None = None) -> None:
    """Remove what builds did not use for a day, then unneeded tags until so many bytes are free, or none is left."""
    if free(store) >= wanted:
        return
    from ..build import keeping

    data = os.path.dirname(store.root)
    who = who or needed(data)
    keeping.tidy(data, oldest=time.time() - _FRESH)
    with prepared(store):
        sweep_parts(store, 0)
        collect(store, who.ids)
        oldest = sorted(store.images(), key=lambda image: image.tagged)
        for image in oldest:
            if free(store) >= wanted or image.tagged > time.time() - _FRESH:
                return
            if image.name and not who.needs(image.name, image.image_id):
                store.remove(image.name, who.ids)


def free(store: Store) -> int:
    """Bytes that are free where the store is."""
    status = os.statvfs(os.path.dirname(store.root))
    return status.f_bavail * status.f_frsize
