"""Runs on the test machine: OCI images from folders, pushed over plain HTTP; shares no code with
hostctl, so that its registry client and image store meet images that someone else made."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(data: bytes) -> str:
    """`sha256:...` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Layer:
    """A tar archive and its compressed form."""

    blob: bytes
    diff_id: str

    @classmethod
    def of(cls, archive: bytes) -> Layer:
        """The gzip layer of a tar archive."""
        return cls(gzip.compress(archive, 6, mtime=0), digest(archive))


def tar(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    """A tar archive that `fill` adds to."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        fill(archive)
    return target.getvalue()


def files_layer(files: Mapping[str, str | bytes]) -> Layer:
    """A layer of these regular files (and, by names that begin with `.wh.`, whiteouts)."""

    def fill(archive: tarfile.TarFile) -> None:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))

    return Layer.of(tar(fill))


def folder_layer(root: Path, below: Path | None = None) -> Layer:
    """A layer of everything in `root` that is not the same in the layer `below`."""

    def fill(archive: tarfile.TarFile) -> None:
        for folder, names, files in os.walk(root):
            names.sort()
            if Path(folder) == root / "dev":
                names.clear()
                continue
            for name in sorted([*names, *files]):
                path = Path(folder, name)
                relative = path.relative_to(root)
                if below is None or not _same(path, below / relative):
                    archive.add(path, str(relative), recursive=False, filter=_plain)

    return Layer.of(tar(fill))


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = 0
    return entry


def _same(one: Path, other: Path) -> bool:
    try:
        a, b = one.lstat(), other.lstat()
    except FileNotFoundError:
        return False
    if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid):
        return False
    if stat.S_ISLNK(a.st_mode):
        return one.readlink() == other.readlink()
    if stat.S_ISREG(a.st_mode):
        return a.st_size == b.st_size and one.read_bytes() == other.read_bytes()
    return a.st_rdev == b.st_rdev


def manifest(layers: list[Layer], config: Mapping[str, Any], **root: Any) -> tuple[bytes, bytes]:
    """The config and the manifest of an image, as bytes; `root` replaces manifest fields."""
    config_blob = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created_by": "hostctl lab"} for _ in layers],
        }
    ).encode()
    described = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": describe(config_blob, CONFIG),
        "layers": [describe(layer.blob, LAYER) for layer in layers],
        **root,
    }
    return config_blob, json.dumps(described).encode()


def describe(blob: bytes, media_type: str) -> dict[str, Any]:
    """The descriptor of a blob."""
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def push(registry: str, name: str, tag: str, layers: list[Layer], config: Mapping[str, Any]) -> str:
    """Push an image to `http://REGISTRY` under a tag; its manifest's digest."""
    config_blob, manifest_blob = manifest(layers, config)
    for blob in [*(layer.blob for layer in layers), config_blob]:
        push_blob(registry, name, blob)
    put_manifest(registry, name, tag, manifest_blob, MANIFEST)
    return digest(manifest_blob)


def push_blob(registry: str, name: str, blob: bytes) -> None:
    """Upload a blob in one piece, unless the registry has it."""
    known = urllib.request.Request(
        f"http://{registry}/v2/{name}/blobs/{digest(blob)}", method="HEAD"
    )
    try:
        _open(known).close()
        return
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
    begin = urllib.request.Request(f"http://{registry}/v2/{name}/blobs/uploads/", method="POST")
    with _open(begin) as answer:
        where = answer.headers["Location"]
    if where.startswith("/"):
        where = f"http://{registry}{where}"
    where += ("&" if "?" in where else "?") + f"digest={digest(blob)}"
    upload = urllib.request.Request(where, data=blob, method="PUT")
    upload.add_header("Content-Type", "application/octet-stream")
    _open(upload).close()


def put_manifest(registry: str, name: str, tag: str, blob: bytes, media_type: str) -> None:
    """Upload a manifest under a tag."""
    request = urllib.request.Request(
        f"http://{registry}/v2/{name}/manifests/{tag}", data=blob, method="PUT"
    )
    request.add_header("Content-Type", media_type)
    _open(request).close()


def _open(request: urllib.request.Request) -> Any:
    """The answer, without a proxy: the registry is on this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=60)
