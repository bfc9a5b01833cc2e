"""Runs on the managed host: images that one host of a run builds for others: what is told of them, and getting them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..contract.errors import CannotObserve, HostctlError
from .shipping import layers_of, receive
from .store import Image, Store

if TYPE_CHECKING:
    from ..agent.host import Host
    from ..image import Observed, Spec


def observe_build(spec: Spec, store: Store, image: Image | None, host: Host) -> Observed:
    """An image that is built: here, perhaps for others, or on another host; or only where it is missing.

    Raises:
        CannotObserve: it cannot be told what it would become.
    """
    from ..image import as_it_is

    if image is not None and spec.pull_policy in ("missing", "if_not_present", "never"):
        found = as_it_is(image)
    elif spec.on:
        found = _observe(spec, store, image, host)
        return replace(found, unnamed=_unnamed(spec, store, found))
    elif spec.pull_policy == "never":
        from .pulled import never

        raise never(spec)
    else:
        from ..build.kind import observe as look

        try:
            found = look(spec, store, image, host)
        except CannotObserve as error:
            if spec.shared:
                _tell_failure(spec, error, host)
            raise
    if spec.shared:
        _tell(spec, store, found, host)
    return replace(found, unnamed=_unnamed(spec, store, found))


def obtain(spec: Spec, store: Store, host: Host) -> Image:
    """Bring it here, under all the names that its build gives it."""
    assert host.exchange is not None and spec.build is not None
    receive(store, host.exchange, spec.name, host.progress)
    return name_all(spec, store)


def name_all(spec: Spec, store: Store) -> Image:
    """Let the further names of the build stand for the image that is there under the first."""
    image = store.image(spec.name)
    assert image is not None and spec.build is not None
    for name in spec.build.tags:
        store.tag(name, image)
    return image


def _unnamed(spec: Spec, store: Store, found: Observed) -> tuple[str, ...]:
    """Names that do not stand for the image; none of an image that is not there yet, whose making gives them."""
    if spec.build is None or found.image_id is None or found.image_id != found.target_id:
        return ()
    named = {name: store.image(name) for name in spec.build.tags}
    return tuple(
        name for name, there in named.items() if there is None or there.image_id != found.image_id
    )


def _tell(spec: Spec, store: Store, observed: Observed, host: Host) -> None:
    """Let the others know what this host, which builds the image, has found; nothing while it does not know."""
    if host.exchange is None or (observed.target_id is None and not observed.why):
        return
    made = next((one for one in store.images() if one.image_id == observed.target_id), None)
    host.exchange.tell(
        spec.name,
        id=observed.target_id or "",
        pinned=observed.wanted,
        why=observed.why,
        layers=layers_of(store, made) if made else {},
    )


def _tell_failure(spec: Spec, error: HostctlError, host: Host) -> None:
    """Let the others know that this host cannot even say what it would build."""
    if host.exchange is not None:
        host.exchange.tell(spec.name, error=error.message)


def _observe(spec: Spec, store: Store, image: Image | None, host: Host) -> Observed:
    """What is here, and what the other host has or will have.

    Raises:
        CannotObserve: it failed there; or nobody can tell, because this is no run with others.
    """
    from ..image import Observed

    there = Observed(
        image_id=image.image_id if image else None,
        target_id=None,
        digest=image.pinned if image else "",
        source=image.source if image else "",
    )
    if host.exchange is None:
        if image is not None:
            return Observed(image.image_id, image.image_id, image.pinned, image.pinned)
        raise CannotObserve(
            f"cannot get {spec.name}: it is built on {spec.on} and comes with an apply of the playbook",
            hint="apply the playbook",
            ref="image-missing",
        )
    offer = host.exchange.known(spec.name)
    if offer is None:
        return there  # it is asked for when this host has looked at all else
    if offer.get("error"):
        raise CannotObserve(
            f"cannot get {spec.name}: {offer['error']}",
            hint=str(offer.get("hint") or ""),
            ref="ship-failed",
        )
    absent = {d: size for d, size in (offer.get("layers") or {}).items() if not store.has_blob(d)}
    return Observed(
        image_id=there.image_id,
        target_id=offer.get("id") or None,
        digest=there.digest,
        wanted=offer.get("pinned") or "",
        source=there.source,
        download=sum(absent.values()),
        layers=len(absent),
        why=str(offer.get("why") or ""),
    )
