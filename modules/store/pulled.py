"""Runs on the managed host: what an image that is pulled is, and should be: by its policy, its pin, its registry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..contract.errors import CannotObserve, HostctlError
from ..contract.pull_policy import period
from ..contract.reference import canonical_name
from .store import Image, Store

if TYPE_CHECKING:
    from ..agent.host import Host
    from ..image import Observed, Spec


def observe(spec: Spec, store: Store, image: Image | None, host: Host) -> Observed:
    """Look at the store; at the registry where the store cannot answer, or the policy says so.

    Raises:
        CannotObserve: it may not be pulled, or what it should be cannot be had.
    """
    from ..image import as_it_is

    spec = _as_told(spec, host)
    seconds = period(spec.pull_policy)
    if (
        image is not None
        and not spec.repin
        and _is_wanted(spec, image)
        and (seconds is None or not _is_due(store, image, seconds))
    ):
        return as_it_is(image)
    if spec.pull_policy == "never":
        if image is not None and not spec.pull and spec.pin in ("", image.pinned):
            return as_it_is(image)
        raise never(spec, "as it is pinned" if spec.pin and image else "")
    return replace(_at_registry(spec, store, image, host), looked=seconds is not None)


def never(spec: Spec, how: str = "") -> CannotObserve:
    """The error of `pull_policy: never`."""
    return CannotObserve(
        f"cannot use image {spec.name}: it is not on the host{' ' if how else ''}{how}, and pull_policy is never",
        hint="load or build it first, or set pull_policy: missing",
        ref="image-missing",
    )


def moved(spec: Spec, observed: Observed) -> list[str]:
    """The warning where a pinned tag stands for something else now."""
    if not observed.moved:
        return []
    return [
        f"image.{spec.name}: pinned to {spec.pin[:19]}, and its tag is {observed.moved[:19]} now (--pin takes that)"
    ]


def _as_told(spec: Spec, host: Host) -> Spec:
    """While a tag is pinned, all of the run means the digest that the controller was told."""
    if not (spec.repin and host.exchange is not None and spec.name in host.exchange.told):
        return spec
    pin = host.exchange.told[spec.name]["pinned"]
    return replace(spec, repin=False, pin=pin, pull_policy="missing")


def _is_due(store: Store, image: Image, seconds: float) -> bool:
    from .freshness import due

    return due(store, image, seconds)


def _is_wanted(spec: Spec, image: Image) -> bool:
    return _same_pull(spec, image) and spec.pin in ("", image.pinned)


def _same_pull(spec: Spec, image: Image) -> bool:
    """Whether the tag may stay. One that stands for itself may be any image (loaded, built, ...)."""
    from ..image import origin_of

    itself = not spec.pull or canonical_name(spec.pull) == canonical_name(spec.name)
    return (itself and not spec.platform) or image.source == origin_of(spec)


def _at_registry(spec: Spec, store: Store, image: Image | None, host: Host) -> Observed:
    from ..image import Observed, as_it_is
    from .obtain import registry_of

    registry = registry_of(spec, host)
    try:
        if image is not None and _is_wanted(spec, image):
            digest = registry.digest()
            if digest == image.pinned or spec.pin:
                _tell_pin(spec, image.pinned, host)
                return replace(as_it_is(image), moved=digest if digest != image.pinned else "")
        if spec.pin:
            registry.reference = replace(registry.reference, digest=spec.pin)
        remote = registry.resolve(spec.platform)
    except HostctlError as error:
        if spec.pin and error.ref == "image-not-found":
            raise CannotObserve(
                f"cannot pull {spec.pull or spec.name}: its registry no longer has {spec.pin}, to which the"
                " lock file pins it",
                hint="take what the tag stands for now: hostctl plan PLAYBOOK --pin; or push that image again",
                ref="pin-gone",
            ) from error
        raise CannotObserve(error.message, hint=error.hint, ref=error.ref) from error
    finally:
        registry.close()
    _tell_pin(spec, remote.digest, host)
    if image is not None and image.image_id == remote.manifest.image_id and _same_pull(spec, image):
        return Observed(image.image_id, image.image_id, image.pinned, remote.digest, image.source)
    absent = {layer for layer in remote.manifest.layers if not store.has_blob(layer.digest)}
    return Observed(
        image_id=image.image_id if image else None,
        target_id=remote.manifest.image_id,
        digest=image.pinned if image else "",
        wanted=remote.digest,
        source=image.source if image else "",
        download=sum(layer.size for layer in absent),
        layers=len(absent),
    )


def _tell_pin(spec: Spec, digest: str, host: Host) -> None:
    if spec.repin and host.exchange is not None:
        host.exchange.tell(spec.name, pinned=digest)
