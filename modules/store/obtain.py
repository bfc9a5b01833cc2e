"""Runs on the managed host: gets the image that a spec wants: from the store, a registry, an archive, apt."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ..agent.host import Host
from ..contract.errors import CannotApply
from ..contract.reference import parse
from .fetch import bring
from .registry import Registry
from .staging import scratch
from .store import Image, Store

if TYPE_CHECKING:
    from ..image import Bootstrap, Observed, Spec


def registry_of(spec: Spec, host: Host) -> Registry:
    """Where the image is pulled from."""
    return Registry.of(host, parse(spec.pull or spec.name), spec.insecure)


def obtain(spec: Spec, observed: Observed, origin: str, store: Store, host: Host) -> Image:
    """The image under its name: from the store itself if it is there already under another one."""
    for image in store.images():
        if image.source == origin and image.image_id == observed.target_id:
            wanted = replace(image, pinned=observed.wanted or image.pinned, trusted=observed.mark)
            store.tag(spec.name, wanted)
            return wanted
    if spec.bootstrap is not None:
        return _bootstrap(spec, spec.bootstrap, origin, store, host)
    if spec.content:
        return _import(spec, origin, store, host)
    return _pull(spec, observed, origin, store, host)


def _pull(spec: Spec, observed: Observed, origin: str, store: Store, host: Host) -> Image:
    """Pull exactly what was planned, even if the tag has moved since."""
    registry = registry_of(spec, host)
    registry.reference = replace(registry.reference, digest=observed.wanted)
    if host.trust is not None:
        from .trust import check_pull

        check_pull(registry.reference, observed.mark, host)
    try:
        remote = registry.resolve(spec.platform)
        return bring(
            store,
            registry,
            remote.manifest,
            registry.what,
            name=spec.name,
            pinned_digest=remote.digest,
            origin=origin,
            trusted=observed.mark,
            progress=host.progress,
        )
    finally:
        registry.close()


def _bootstrap(spec: Spec, wanted: Bootstrap, origin: str, store: Store, host: Host) -> Image:
    from .bootstrap import make

    host.progress(f"bootstrapping {wanted.suite}")
    with scratch(store) as folder:
        manifest, source = make(wanted, spec.name, folder)
        return bring(store, source, manifest, spec.name, name=spec.name, origin=origin)


def _import(spec: Spec, origin: str, store: Store, host: Host) -> Image:
    from .archive import find, members

    with scratch(store) as folder:

        def path_of(digest: str) -> str:
            for base in (host.paths.data, host.paths.run):
                path = os.path.join(base, "blobs", digest)
                if os.path.exists(path):
                    return path
            path = os.path.join(folder, digest)
            if not os.path.exists(path):
                with open(path, "xb") as file:
                    file.write(host.blob(digest))
            return path

        manifest, source = find(members(spec.content, path_of, folder), spec.name, spec.platform)
        host.progress("unpacking")
        return bring(
            store,
            source,
            manifest,
            spec.name,
            name=spec.name,
            origin=origin,
            progress=host.progress,
        )


def install(package: str, name: str, host: Host) -> None:
    """A program that making an image needs; the plan has shown it as a change of its own."""
    from ..agent.run import run

    host.progress(f"installing {package}")
    argv = ["apt-get", "--yes", "--quiet", "--no-install-recommends", "-oDPkg::Lock::Timeout=300"]
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    done = run([*argv, "install", package], env=env, timeout=900)
    if done.code != 0:
        run([*argv, "update"], env=env, timeout=600)
        done = run([*argv, "install", package], env=env, timeout=900)
    if done.code != 0:
        last = " / ".join(done.stderr.strip().splitlines()[-2:])
        raise CannotApply(
            f"cannot install {package} to bootstrap {name}: {last}",
            hint=f"install {package} on the host, or ship the image as an archive",
            ref="package-failed",
        )
