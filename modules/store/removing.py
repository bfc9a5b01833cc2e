"""Runs on the managed host, in the agent: the verbs image tag, rm and prune.

What removes takes the host's lock: an apply may be about to use what it has just seen.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..agent.lock import attempt
from ..contract.errors import HostctlError
from ..contract.reference import parse
from .collect import collect, unneeded
from .needed import Needed, needed
from .parts import sweep_parts
from .shown import familiar, find, matches, row_of
from .staging import prepared
from .store import Image, Store

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Host

_PATIENCE = 10.0


@contextmanager
def _locked(host: Host, args: dict[str, Any], action: str, channel: Channel) -> Iterator[None]:
    """The host's lock; another run is waited for a little. Raises `host-locked`."""
    end = time.monotonic() + _PATIENCE
    lock = None
    while lock is None:
        lock = attempt(host.paths.run, who=str(args.get("holder") or ""), action=action)
        if lock is None and time.monotonic() > end:
            raise HostctlError(
                "cannot remove images: another run holds the host's lock",
                hint="wait until it ends, then try again",
                ref="host-locked",
            )
        if lock is None:
            channel.stop_if_gone()
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.release()


def tag(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Give an image another name."""
    store = Store(host.paths.data)
    name = str(parse(args["target"]))
    with prepared(store):
        store.tag(name, find(store, args["source"]))
    channel.send("row", data={"tagged": familiar(name)})
    return 0


def rm(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Take names away; an image whose last name went is removed, unless a container was made from it.

    Raises:
        HostctlError: `no-image`; without `force`: `image-in-use`, `image-tagged` (an id with several names).
    """
    store = Store(host.paths.data)
    force = bool(args.get("force"))
    with _locked(host, args, "image rm", channel):
        who = needed(host.paths.data)
        missing: HostctlError | None = None
        done = 0
        for reference in args["names"]:
            try:
                image = find(store, reference)
            except HostctlError as error:
                if error.ref != "no-image":
                    raise
                missing = error
                continue
            _remove(store, image, reference, who, force, channel)
            done += 1
        if missing is not None and not (done and force):
            ref = "image-missing" if done else missing.ref
            raise HostctlError(missing.message, hint=missing.hint, ref=ref)
    return 0


def _remove(
    store: Store, image: Image, reference: str, who: Needed, force: bool, channel: Channel
) -> None:
    names = [i.name for i in store.images() if i.image_id == image.image_id and i.name]
    by_id = image.image_id.startswith(reference.rpartition("sha256:")[2])
    if by_id and len(names) > 1 and not force:
        raise HostctlError(
            f"cannot remove the image {reference}: it has {len(names)} names: "
            f"{', '.join(map(familiar, names))}",
            hint="name one of them, or remove all with --force",
            ref="image-tagged",
        )
    last = by_id or len(names) <= 1
    users = who.containers.get(image.image_id, []) + who.releases.get(image.image_id, [])
    if last and users and not force:
        raise HostctlError(
            f"cannot remove the image {reference}: {', '.join(users[:5])} "
            f"need{'s' if len(users) == 1 else ''} it",
            hint="--force takes its name away; what a container was made from stays on the disk",
            ref="image-in-use",
        )
    for name in names if by_id else [image.name]:
        if name:
            store.untag(name)
            channel.send("row", data={"untagged": familiar(name)})
    kept = who.ids - ({image.image_id} - who.containers.keys())
    collect(store, kept)
    if last and image.image_id not in kept:
        channel.send("row", data={"deleted": f"sha256:{image.image_id}"})


def prune(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Remove images without a name; with `all` also those that no container, release or project needs.

    Answers with a row per name and image, then one with the bytes: `freed`. With `dry` nothing is removed.
    With `cache` the build cache goes, too, unless something is just being built.
    """
    store = Store(host.paths.data)
    if args.get("dry"):
        who = needed(host.paths.data)
        with prepared(store):
            return _prune(store, args, who, channel)
    with _locked(host, args, "image prune", channel), prepared(store):
        return _prune(store, args, needed(host.paths.data), channel)


def _prune(store: Store, args: dict[str, Any], who: Needed, channel: Channel) -> int:
    from ..build import keeping

    doomed: list[Image] = []
    rest: list[Image] = []
    for image in store.images():
        goes = image.image_id not in who.ids and (
            not image.name or (bool(args.get("all")) and not who.needs(image.name, image.image_id))
        )
        goes = goes and matches(store, row_of(store, image), image, args.get("filters") or ())
        (doomed if goes else rest).append(image)
    # Nameless images that a filter spares stay, as those in use do.
    kept = who.ids | {image.image_id for image in rest if not image.name}
    data = os.path.dirname(store.root)
    kept_files = keeping.size(data) if args.get("cache") else 0
    freed = unneeded(store, rest, kept, cache=not args.get("cache")).size + kept_files
    for image in doomed:
        if image.name:
            if not args.get("dry"):
                store.untag(image.name)
            channel.send("row", data={"untagged": familiar(image.name)})
    for image_id in dict.fromkeys(image.image_id for image in doomed):
        if image_id not in {image.image_id for image in rest}:
            channel.send("row", data={"deleted": f"sha256:{image_id}"})
    if not args.get("dry"):
        if args.get("cache"):
            keeping.tidy(data, oldest=math.inf)
        freed = sweep_parts(store, 0)
        freed += collect(store, kept) + kept_files - keeping.size(data)
    channel.send("row", data={"freed": freed})
    return 0
