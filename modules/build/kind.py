"""Runs on the managed host: builds as a source of the kind `image`: what would be built, and building it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..agent.files import private_folder
from ..agent.host import Host
from ..contract.build import IMAGE, Build
from ..contract.errors import CannotApply, CannotObserve, HostctlError
from ..store.store import Image, Store
from .lent import lent
from .perform import look, origin_of, perform
from .site import Files

if TYPE_CHECKING:
    from ..image import Observed, Spec

_made: set[tuple[str, str]] = set()
"""Data folder and origin of what this process has built: `no_cache` asks for no second time."""


def listings(build: Build) -> tuple[str, ...]:
    """Digests of the contexts' listings."""
    named = build.additional_contexts.values()
    found = [build.context, *(item for item in named if not item.startswith(IMAGE))]
    return tuple(item for item in found if item)


def observe(spec: Spec, store: Store, image: Image | None, host: Host) -> Observed:
    """What the name stands for, and what a build would give. Raises CannotObserve."""
    from dataclasses import replace

    from ..image import Observed

    build = spec.build
    assert build is not None
    there = Observed(
        image.image_id if image else None,
        None,
        image.pinned if image else "",
        source=image.source if image else "",
    )
    if not all(host.blob(digest) for digest in listings(build)):
        return there  # they are on their way, and this is asked again then
    if (host.paths.data, origin_of(build)) in _made:
        build = replace(build, no_cache=False, pull=False)
    try:
        found = look(build, host, _files(host, spec.name), spec.name)
    except HostctlError as error:
        raise CannotObserve(
            error.message, where=error.where, hint=error.hint, ref=error.ref
        ) from error
    known = next((one for one in store.images() if one.image_id == found.image_id), None)
    return replace(
        there, target_id=found.image_id, wanted=known.pinned if known else "", why=found.why
    )


def make(spec: Spec, host: Host) -> Image:
    """Build it. Raises CannotApply."""
    build = spec.build
    assert build is not None

    def report(**event: object) -> None:
        if event.get("state") == "run" and event.get("stage"):
            place = f"[{event['stage']} {event['index']}/{event['count']}]"
            host.progress(f"{place} {event['text']}")

    try:
        image = perform(
            build, host, _files(host, spec.name), [spec.name, *build.tags], origin_of(build), report
        )
    except HostctlError as error:
        raise CannotApply(
            error.message, where=error.where, hint=error.hint, ref=error.ref
        ) from error
    _made.add((host.paths.data, origin_of(build)))
    return image


def _files(host: Host, name: str) -> Files:
    """Content of this run; files stay in DATA/build/blobs, so that what was sent once is not sent again."""
    folder = os.path.join(host.paths.data, "build", "blobs")

    def path(digest: str) -> str:
        return os.path.join(folder, digest)

    def fetch(digests: set[str]) -> None:
        missing = {digest for digest in digests if not os.path.exists(path(digest))}
        host.fetch(missing)
        private_folder(folder)
        for digest in missing:
            came = os.path.join(host.paths.data, "blobs", digest)
            try:
                os.link(came, path(digest))
            except FileExistsError:
                continue

    return Files(read=host.blob, fetch=fetch, path=path, lent=lent(name, host))
