"""Runs on the managed host: pushes an image of the store to a registry (OCI distribution 1.1, Docker v2).

What the repository has is not sent; what another repository of the same registry has is mounted from
there. The manifest comes last and byte for byte as it is in the store, so its digest stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable
from urllib.parse import quote

from ..contract.errors import HostctlError
from ..contract.reference import Reference, parse
from .endpoint import Credentials, Endpoint, Registries
from .fetch import PARALLEL, Meter
from .manifest import Descriptor, Manifest, parse_manifest
from .staging import pinned
from .store import Image, Store
from .upload import Upload


@dataclass(frozen=True)
class Pushed:
    """What a push did: the manifest's digest, and bytes sent, mounted and there already."""

    digest: str
    sent: int
    mounted: int
    present: int


class Push:
    """One image on its way into one repository.

    Args:
        destination: where to; its tag, or digest, names the manifest there.
        insecure, credentials, registries: as in `Registry`.
        progress: takes a line such as `pushing 12/96 MB`.
    """

    def __init__(
        self,
        store: Store,
        image: Image,
        destination: Reference,
        *,
        insecure: bool,
        credentials: Credentials,
        registries: Registries,
        progress: Callable[[str], None],
    ) -> None:
        self._store = store
        self._image = image
        self._destination = destination
        self._progress = progress
        self._mounts = _mounts(store, destination)
        self._endpoint = Endpoint(
            destination,
            insecure=insecure,
            credentials=credentials,
            registries=registries,
            verb="push",
            scopes=(f"repository:{destination.path}:pull,push",),
        )

    def run(self) -> Pushed:
        """Send what is missing, then the manifest.

        Raises:
            HostctlError: `image-missing`, `registry-...`, `push-refused`; blobs that came whole stay there.
        """
        from concurrent.futures.thread import ThreadPoolExecutor

        manifest = self._manifest()
        blobs = list(dict.fromkeys([manifest.config, *manifest.layers]))
        meter = Meter(sum(blob.size for blob in blobs), self._progress, "pushing")
        done = {"sent": 0, "mounted": 0, "present": 0}
        try:
            with pinned(self._store, [manifest.digest, *(blob.digest for blob in blobs)]):
                self._allow_mounts(blobs)
                with ThreadPoolExecutor(PARALLEL) as pool:
                    jobs = [pool.submit(self._blob, blob, meter) for blob in blobs]
                    try:
                        for blob, job in zip(blobs, jobs):
                            done[job.result()] += blob.size
                    except BaseException:
                        for job in jobs:
                            job.cancel()
                        raise
                self._put_manifest(manifest)
        finally:
            self._endpoint.close()
        return Pushed(manifest.digest, **done)

    def _manifest(self) -> Manifest:
        digest, what = self._image.manifest, str(self._destination)
        if not self._store.has_blob(digest):
            raise _missing(what, digest)
        with open(self._store.blob_path(digest), "rb") as file:
            manifest = parse_manifest(file.read(), digest, self._image.media_type, what)
        for blob in (manifest.config, *manifest.layers):
            if not self._store.has_blob(blob.digest):
                raise _missing(what, blob.digest)
        return manifest

    def _allow_mounts(self, blobs: list[Descriptor]) -> None:
        """Ask for the right to read where blobs may be mounted from."""
        paths = sorted({self._mounts[blob.digest] for blob in blobs if blob.digest in self._mounts})
        self._endpoint.auth.also(tuple(f"repository:{path}:pull" for path in paths))

    def _blob(self, blob: Descriptor, meter: Meter) -> str:
        """Bring one blob there; how: `present`, `mounted` or `sent`."""
        endpoint = self._endpoint
        answer = endpoint.request("HEAD", f"blobs/{blob.digest}")
        if answer.status == 200:
            meter.add(blob.size)
            return "present"
        origin = self._mounts.get(blob.digest)
        query = f"?mount={quote(blob.digest)}&from={quote(origin, safe='')}" if origin else ""
        answer = endpoint.request("POST", f"blobs/uploads/{query}", {"Content-Length": "0"})
        if answer.status == 201:
            meter.add(blob.size)
            return "mounted"
        if answer.status != 202:
            raise endpoint.failed(answer, "the start of an upload")
        path = self._store.blob_path(blob.digest)
        Upload(endpoint, blob, path, endpoint.location(answer), meter.add).run()
        return "sent"

    def _put_manifest(self, manifest: Manifest) -> None:
        answer = self._endpoint.request(
            "PUT",
            f"manifests/{self._destination.target}",
            {"Content-Type": manifest.media_type},
            body=manifest.raw,
        )
        if answer.status not in (200, 201):
            raise self._endpoint.failed(answer, "the manifest")
        got = answer.headers.get("docker-content-digest", manifest.digest)
        if got != manifest.digest:
            raise HostctlError(
                f"cannot push {self._destination}: {self._endpoint.host} calls it {got}, "
                f"it is {manifest.digest}",
                hint="the registry has changed the manifest; look at its log",
                ref="digest-mismatch",
            )


def _mounts(store: Store, destination: Reference) -> dict[str, str]:
    """Blob digest -> another repository of the same registry that the blob was pulled from."""
    found: dict[str, str] = {}
    for image in store.images():
        if not image.source.startswith("pull:"):
            continue
        origin = parse(image.source[len("pull:") :].partition(" ")[0])
        if origin.host != destination.host or origin.path == destination.path:
            continue
        try:
            content = store.manifest(image)
        except HostctlError:
            continue
        for layer in content.get("layers", ()):
            found.setdefault(str(layer.get("digest", "")), origin.path)
    return found


def _missing(what: str, digest: str) -> HostctlError:
    return HostctlError(
        f"cannot push {what}: {digest} is missing from the store",
        hint="pull or build the image again",
        ref="image-missing",
    )
