"""Runs on the managed host: images that a build begins with, from the store or pulled."""

from __future__ import annotations

import copy
import threading

from ..contract.errors import HostctlError
from ..store.store import Image
from .site import NotBuilt, Site
from .state import DEFAULT_PATH, DEFAULT_SHELL, State

_lock = threading.Lock()
"""One pull at a time: two stages often begin with the same image."""


def base_state(site: Site, reference: str, hint: str = "") -> State:
    """What an image is, as a stage begins with it.

    Raises:
        HostctlError: it is neither in the store nor can it be pulled.
        NotBuilt: it is not there, and this is only a look.
    """
    with _lock:
        image = _image(site, reference, hint)
        site.bases[reference] = image.image_id
    content = site.store.config(image.image_id)
    manifest = site.store.manifest(image)
    ids = [item.rpartition(":")[2] for item in content.get("rootfs", {}).get("diff_ids", ())]
    config = copy.deepcopy(content.get("config") or {})
    if not config.get("Env"):
        config["Env"] = [f"PATH={DEFAULT_PATH}"]
    return State(
        layers=ids,
        config={name: value for name, value in config.items() if value},
        history=list(content.get("history") or ()),
        blobs=dict(zip(ids, manifest.get("layers", ()))),
        author=content.get("author") or "",
        shell=list(config.get("Shell") or DEFAULT_SHELL),
    )


def _image(site: Site, reference: str, hint: str) -> Image:
    found = site.store.image(reference)
    key = f"base:{reference}"
    held = site.host.trust is not None and key not in site.pulled
    if found is not None and not held and (not site.build.pull or key in site.pulled):
        return found
    if found is None and not site.folder:
        raise NotBuilt
    from .. import image as kind

    site.files.logins()
    try:
        policy = "always" if site.build.pull else "missing"
        spec = kind.Spec(name=reference, pull_policy=policy)
        observed = kind.observe(spec, site.host)
        changes = kind.diff(spec, observed)
        if changes and not site.folder:
            raise NotBuilt
        if changes:
            site.report(event="step", state="run", text=f"pull {reference}")
            kind.apply(spec, observed, changes, site.host)
    except HostctlError as error:
        raise HostctlError(error.message, hint=hint or error.hint, ref=error.ref) from error
    except ValueError as error:
        raise HostctlError(
            f"cannot begin with {reference}: {error}", hint=hint, ref="build-base"
        ) from None
    site.pulled.add(key)
    found = site.store.image(reference)
    if found is None:
        raise HostctlError(f"cannot begin with {reference}: it vanished from the store")
    return found
