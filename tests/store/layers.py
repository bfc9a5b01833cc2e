"""Layers, images and broken archives for the tests of the store."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def member(
    name: str,
    data: bytes | None = None,
    *,
    kind: bytes = b"",
    link: str = "",
    mode: int | None = None,
    uid: int = 0,
    gid: int = 0,
    mtime: float = 1_600_000_000,
    pax: dict[str, str] | None = None,
    device: tuple[int, int] = (0, 0),
) -> tuple[tarfile.TarInfo, bytes]:
    """One entry: a folder if the name ends in /, a link with `link`, else a file."""
    info = tarfile.TarInfo(name)
    if kind:
        info.type = kind
    elif name.endswith("/"):
        info.type = tarfile.DIRTYPE
    elif link:
        info.type = tarfile.SYMTYPE
    info.linkname = link
    info.mode = mode if mode is not None else (0o755 if info.type == tarfile.DIRTYPE else 0o644)
    info.uid, info.gid, info.mtime = uid, gid, mtime
    info.pax_headers = pax or {}
    info.devmajor, info.devminor = device
    info.size = len(data or b"")
    return info, data or b""


def tar(*members: tuple[tarfile.TarInfo, bytes], fmt: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=fmt) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@dataclass
class TestImage:
    """An image in memory: manifest and blobs, as a registry or a layout would hold them."""

    __test__ = False

    layers: list[bytes]
    config: dict[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"
    docker: bool = False
    created: str = ""
    packed: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.packed:
            self.packed = [gzip.compress(layer, 1, mtime=0) for layer in self.layers]
        self.config_data = json.dumps(
            {
                "architecture": self.architecture,
                "os": "linux",
                **({"created": self.created} if self.created else {}),
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in self.layers]},
            }
        ).encode()
        types = (
            (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER)
            if self.docker
            else (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER)
        )
        self.media_type = types[0]
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": types[0],
                "config": {
                    "mediaType": types[1],
                    "digest": sha256(self.config_data),
                    "size": len(self.config_data),
                },
                "layers": [
                    {"mediaType": types[2], "digest": sha256(blob), "size": len(blob)}
                    for blob in self.packed
                ],
            }
        ).encode()

    @property
    def image_id(self) -> str:
        return sha256(self.config_data)[7:]

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    def blobs(self) -> dict[str, bytes]:
        return {sha256(data): data for data in [self.config_data, *self.packed]}
