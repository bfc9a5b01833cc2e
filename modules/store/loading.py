"""Runs on the managed host, in the agent: the verbs load and import: images from what the controller sends.

`load` is told what the archive has before any of it travels, and wants only what this host lacks. Bytes are
written as they come, in the thread that reads them: a slow disk slows the sender down.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from ..contract.errors import HostctlError
from ..contract.reference import canonical_name, parse
from .archive import ArchiveSource, Member, all_images
from .decompress import decompress
from .fetch import bring
from .manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, parse_manifest, parse_platform
from .shown import familiar
from .staging import pinned, prepared, scratch
from .store import Image, Store

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Host

_CHUNK = 1 << 20
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")


class _Incoming:
    """Input frames, written to a file until `eof`."""

    def __init__(self, channel: Channel, path: str) -> None:
        self._file: BinaryIO = open(path, "xb", buffering=0)  # noqa: SIM115 # closed at eof
        self._ended = threading.Event()
        self._error: OSError | None = None
        self._channel = channel
        channel.on("stdin", self._take)
        channel.on("eof", lambda *_: self._end())
        channel.on_gone(self._end)

    def wait(self) -> None:
        """Until all is there. Raises ControllerGone, or HostctlError where the disk is full."""
        self._ended.wait()
        self._channel.stop_if_gone()
        if self._error is not None:
            raise HostctlError(
                f"cannot keep what is sent: {self._error.strerror}",
                hint="free some space on the host, or move hostctl's data with hostctl_data_dir",
                ref="disk-full",
            )

    def _take(self, _: dict[str, Any], body: bytes) -> None:
        rest = memoryview(body)
        try:
            while rest and self._error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error

    def _end(self) -> None:
        self._file.close()
        self._ended.set()


def load(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Take the images of an archive.

    Args (of the call): `members`, a list of (path, bytes); `links`, path -> path with the same bytes;
    `platform`. A row says which are `wanted`; their bytes follow as input, one after another. Then a row for
    each image: `loaded` (its name, or empty) and `id`.
    """
    store = Store(host.paths.data)
    members: list[tuple[str, int]] = [(str(name), int(size)) for name, size in args["members"]]
    digests = [match[1] for name, _ in members for match in [_BLOB.fullmatch(name)] if match]
    with prepared(store):
        pass
    with pinned(store, digests), scratch(store) as folder:
        path = os.path.join(folder, "incoming")
        incoming = _Incoming(channel, path)
        here = {name for name, size in members if _is_here(store, name, size)}
        channel.send(
            "row", data={"wanted": [n for n, (name, _) in enumerate(members) if name not in here]}
        )
        incoming.wait()
        found: dict[str, Member] = {}
        offset = 0
        for name, size in members:
            if name in here:
                found[name] = Member(store.blob_path(name.rpartition("/")[2]), 0, size)
            else:
                found[name] = Member(path, offset, size)
                offset += size
        if os.stat(path).st_size != offset:
            raise HostctlError(
                "cannot load: the archive changed while it was sent", ref="archive-image"
            )
        for name, target in (args.get("links") or {}).items():
            if target in found:
                found.setdefault(name, found[target])
        for names, manifest, source in all_images(found, str(args.get("platform") or "")):
            what = f"the image {names[0]}" if names else "an image of the archive"
            first = names[0] if names else ""
            image = bring(
                store, source, manifest, what, name=first, origin=f"load:{manifest.digest}"
            )
            for name in names[1:]:
                store.tag(name, image)
            for name in names or [""]:
                channel.send(
                    "row", data={"loaded": familiar(name), "id": f"sha256:{image.image_id}"}
                )
    return 0


def _is_here(store: Store, name: str, size: int) -> bool:
    match = _BLOB.fullmatch(name)
    try:
        return match is not None and os.stat(store.blob_path(match[1])).st_size == size
    except FileNotFoundError:
        return False


def import_(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """An image of one layer from a root file system's tar, which follows as input or is at an address.

    Args (of the call): `name` (may be empty), `message`, `platform`, `config` (OCI config's `config`), `changes`
    (instructions that change it), `origin`, `url` (instead of input), `checksum` (`sha256:HEX` of the tar as it comes).
    """
    store = Store(host.paths.data)
    name = str(parse(args["name"])) if args.get("name") else ""
    if args.get("changes"):
        from .changes import changed

        args = {**args, "config": changed(args.get("config") or {}, args["changes"])}
    with prepared(store):
        pass
    with scratch(store) as folder:
        path = os.path.join(folder, "incoming")
        if args.get("url"):
            from ..build.downloads import download

            _check_sum(args, download(str(args["url"]), path)[0])
        else:
            incoming = _Incoming(channel, path)
            channel.send("row", data={"ready": True})
            incoming.wait()
        image = _imported(store, path, folder, name, args)
    channel.send("row", data={"id": f"sha256:{image.image_id}", "name": familiar(name)})
    return 0


def _imported(store: Store, path: str, folder: str, name: str, args: dict[str, Any]) -> Image:
    blob, diff = hashlib.sha256(), hashlib.sha256()
    with open(path, "rb") as file:

        def pieces() -> Any:
            for piece in iter(lambda: file.read(_CHUNK), b""):
                blob.update(piece)
                yield piece

        stream = pieces()
        for piece in decompress(stream, folder):
            diff.update(piece)
        for _ in stream:
            pass  # what stands behind the compressed stream is part of the blob
    _check_sum(args, blob.hexdigest())
    with open(path, "rb") as file:
        head = file.read(4)
    gzip, zstd = head[:2] == b"\x1f\x8b", head == b"\x28\xb5\x2f\xfd"
    system, architecture, variant = parse_platform(str(args.get("platform") or ""))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    comment = str(args.get("message") or "") or f"Imported from {args.get('origin') or '-'}"
    config = {
        "created": now,
        "architecture": architecture,
        **({"variant": variant} if variant else {}),
        "os": system,
        "config": args.get("config") or {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff.hexdigest()}"]},
        "history": [{"created": now, "comment": comment}],
    }
    raw_config = json.dumps(config).encode()
    layer = f"sha256:{blob.hexdigest()}"
    size = os.stat(path).st_size
    described = _described(OCI_CONFIG, raw_config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described,
        "layers": [
            {
                "mediaType": OCI_LAYER + ("+gzip" if gzip else "+zstd" if zstd else ""),
                "digest": layer,
                "size": size,
            }
        ],
    }
    raw = json.dumps(manifest).encode()
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    source = ArchiveSource({layer: Member(path, 0, size)}, {described["digest"]: raw_config})
    what = canonical_name(name) if name else "the imported image"
    parsed = parse_manifest(raw, digest, OCI_MANIFEST, what)
    return bring(store, source, parsed, what, name=name, origin=f"import:{digest}")


def _check_sum(args: dict[str, Any], found: str) -> None:
    wanted = str(args.get("checksum") or "").rpartition(":")[2]
    if wanted and wanted != found:
        raise HostctlError(
            f"cannot import {args.get('origin')}: expected sha256:{wanted}, got sha256:{found}",
            hint="it has changed, or the checksum is of another file; nothing was kept",
            ref="digest-mismatch",
        )


def _described(media_type: str, raw: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(raw)}
