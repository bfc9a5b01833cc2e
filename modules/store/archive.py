"""Runs on the managed host: images from archives: an OCI layout (folder or tar) or a `docker save` tar.

An archive is a set of named members. Where they lie (blobs of this run, or offsets in one tar) makes no
difference to how the image in it is found; what is found goes through `fetch.bring` like a pull.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ..contract.errors import HostctlError
from ..contract.reference import canonical_name
from .decompress import decompress
from .fetch import verify
from .manifest import (
    INDEXES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    SIZE_LIMIT,
    Descriptor,
    Manifest,
    choose,
    media_type_of,
    parse_manifest,
)
from .store import CONTAINERD_NAME, REF_NAME
from .tar import FileStream, TarReader

_CHUNK = 1 << 20
Named = Mapping[str, "Member"]


@dataclass(frozen=True)
class Member:
    """One file of an archive: a part of a file of this host."""

    path: str
    offset: int
    size: int

    def stream(self) -> Iterator[bytes]:
        """Its bytes, in pieces."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            left = self.size
            while left:
                chunk = file.read(min(_CHUNK, left))
                if not chunk:
                    return
                left -= len(chunk)
                yield chunk

    def read(self) -> bytes:
        """Its bytes, if they are few: manifests and configs."""
        if self.size > SIZE_LIMIT:
            raise _error(
                f"{os.path.basename(self.path)} has {self.size >> 20} MiB where JSON should be"
            )
        return b"".join(self.stream())


class ArchiveSource:
    """A `fetch.Source`: blobs of one image by digest."""

    def __init__(self, blobs: Mapping[str, Member], data: Mapping[str, bytes]) -> None:
        self._blobs = blobs
        self._data = data

    def stream(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob's bytes; the caller verifies them."""
        if blob.digest in self._data:
            return iter((self._data[blob.digest],))
        if blob.digest not in self._blobs:
            raise _error(f"{blob.digest} is missing from it")
        return self._blobs[blob.digest].stream()


def members(content: Mapping[str, str], path_of: Callable[[str], str], folder: str) -> Named:
    """What is in an archive.

    Args:
        content: path inside of the archive -> digest; a single one that is no part of a layout is a tar.
        path_of: digest -> file of this host with these bytes.
        folder: an empty folder for temporary files, which the caller removes.
    """
    whole = {posixpath.normpath(name): path_of(digest) for name, digest in content.items()}
    if len(whole) == 1 and not {"index.json", "manifest.json"} & whole.keys():
        return _tar_members(next(iter(whole.values())), folder)
    return {name: Member(path, 0, os.stat(path).st_size) for name, path in whole.items()}


def find(archive: Named, name: str, platform: str) -> tuple[Manifest, ArchiveSource]:
    """The image in the archive: the only one, or the one that has this name.

    Raises:
        HostctlError: `archive-image` if there is none, or several and none has the name.
    """
    what = f"the archive for {name}"
    if "index.json" in archive:
        return _from_layout(archive, name, platform, what)
    if "manifest.json" in archive:
        return _from_docker(archive, name, what)
    raise _error("it is neither an OCI layout (index.json) nor from docker save (manifest.json)")


def all_images(archive: Named, platform: str) -> list[tuple[list[str], Manifest, ArchiveSource]]:
    """Every image of the archive, for this platform: its canonical names, manifest and blobs.

    A bare word as the name in an OCI layout (`latest`) is a tag without a repository, and no name.

    Raises:
        HostctlError: `archive-image` if there is none, or what is there is broken.
    """
    docker = _docker_images(archive) if "manifest.json" in archive else []
    if "index.json" not in archive:
        if not docker:
            raise _error(
                "it has neither an OCI layout (index.json) nor docker save's manifest.json"
            )
        found = []
        for entry in docker:
            names = [canonical_name(str(tag)) for tag in entry.get("RepoTags") or ()]
            found.append((names, *_docker_image(archive, entry, "an image of the archive")))
        return found
    _, index = media_type_of(archive["index.json"].read(), INDEXES[0], "the archive")
    by_config = {
        posixpath.basename(str(entry.get("Config"))).partition(".")[0]: entry for entry in docker
    }
    foreign = _error("it has no image")
    images: dict[str, tuple[list[str], Manifest, ArchiveSource]] = {}
    for item in index.get("manifests") or ():
        if not isinstance(item, dict):
            raise _error("its index.json lists what is no manifest")
        only = {**index, "manifests": [item]}
        try:
            manifest, source = _manifest_of(archive, only, platform, "an image of the archive")
        except HostctlError as error:
            if error.ref != "image-platform":
                raise
            foreign = error
            continue
        names, _, _ = images.setdefault(manifest.digest, ([], manifest, source))
        notes = item.get("annotations") or {}
        tags = [str(notes.get(CONTAINERD_NAME) or ""), str(notes.get(REF_NAME) or "")]
        tags = [tag for tag in tags if "/" in tag or ":" in tag][:1]
        tags += (by_config.get(manifest.image_id) or {}).get("RepoTags") or []
        names += [n for n in dict.fromkeys(map(canonical_name, tags)) if n not in names]
    if not images:
        raise foreign
    return list(images.values())


def _tar_members(path: str, folder: str) -> Named:
    with open(path, "rb") as file:
        packed = file.read(4)[:2] in (b"\x1f\x8b", b"\x28\xb5")
    if packed:
        path = _unpacked(path, folder)
    found: dict[str, Member] = {}
    links: dict[str, str] = {}
    with open(path, "rb") as file:
        for entry in TarReader(FileStream(file)):
            name = posixpath.normpath(os.fsdecode(entry.name)).lstrip("/")
            if entry.kind == b"0":
                found[name] = Member(path, file.tell(), entry.size)
            elif entry.kind in (b"1", b"2"):
                target = os.fsdecode(entry.linkname)
                start = posixpath.dirname(name) if entry.kind == b"2" else ""
                links[name] = posixpath.normpath(posixpath.join(start, target))
    # docker save writes layers that are equal once, and links to them.
    for name, target in links.items():
        if target in found:
            found.setdefault(name, found[target])
    return found


def _unpacked(path: str, folder: str) -> str:
    plain = os.path.join(folder, "archive.tar")
    with open(path, "rb") as packed, open(plain, "xb") as file:
        for chunk in decompress(iter(lambda: packed.read(_CHUNK), b""), folder):
            file.write(chunk)
    return plain


def _from_layout(
    archive: Named, name: str, platform: str, what: str
) -> tuple[Manifest, ArchiveSource]:
    _, index = media_type_of(archive["index.json"].read(), INDEXES[0], what)
    chosen = _named(index.get("manifests") or [], name, what)
    return _manifest_of(archive, index, platform, what, chosen)


def _manifest_of(
    archive: Named,
    index: dict[str, Any],
    platform: str,
    what: str,
    chosen: Descriptor | None = None,
) -> tuple[Manifest, ArchiveSource]:
    """The manifest that is chosen, or the platform's, through indexes below indexes."""
    blobs = {
        "sha256:" + path.rpartition("/")[2]: member
        for path, member in archive.items()
        if path.startswith("blobs/sha256/")
    }
    source = ArchiveSource(blobs, {})
    descriptor = chosen if chosen is not None else choose(index, platform, what)
    for _ in range(3):
        raw = _read_blob(source, blobs, descriptor, what)
        media_type, content = media_type_of(raw, descriptor.media_type, what)
        if media_type not in INDEXES:
            return parse_manifest(raw, descriptor.digest, media_type, what), source
        descriptor = choose(content, platform, what)
    raise _error("its indexes are nested too deep")


def _named(items: list[Any], name: str, what: str) -> Descriptor | None:
    """The entry with the name; the only entry; None where all are one image for several platforms."""
    if not items:
        raise _error("it has no image")
    full = canonical_name(name)
    known = []
    for item in items:
        notes = item.get("annotations") or {}
        names = {notes[key] for key in (CONTAINERD_NAME, REF_NAME) if notes.get(key)}
        known.append(
            (
                names,
                Descriptor(str(item["digest"]), int(item["size"]), str(item.get("mediaType", ""))),
            )
        )
    exact = [found for names, found in known if full in {canonical_name(word) for word in names}]
    if len(exact) == 1 or (exact and len({found.digest for found in exact}) == 1):
        return exact[0]
    if len({found.digest for _, found in known}) == 1:
        return known[0][1]
    tags = full.rpartition(":")[2]
    tagged = [found for names, found in known if tags in names]
    if len(tagged) == 1:
        return tagged[0]
    if (
        items
        and all(item.get("platform") for item in items)
        and not any(names for names, _ in known)
    ):
        return None
    raise _ambiguous(sorted({word for names, _ in known for word in names}), name)


def _read_blob(
    source: ArchiveSource, blobs: Mapping[str, Member], descriptor: Descriptor, what: str
) -> bytes:
    if descriptor.digest not in blobs:
        raise _error(f"{descriptor.digest} is missing from it")
    raw = blobs[descriptor.digest].read()
    verify(descriptor.digest, hashlib.sha256(raw).hexdigest(), f"the manifest of {what}")
    return raw


def _from_docker(archive: Named, name: str, what: str) -> tuple[Manifest, ArchiveSource]:
    """`docker save`: a list of images, each with config and layer files."""
    return _docker_image(archive, _tagged(_docker_images(archive), name), what)


def _docker_images(archive: Named) -> list[dict[str, Any]]:
    try:
        images = json.loads(archive["manifest.json"].read())
    except (ValueError, RecursionError) as error:
        raise _error(f"its manifest.json is no JSON ({error})") from None
    if not isinstance(images, list) or not all(isinstance(item, dict) for item in images):
        raise _error("its manifest.json is no list of images")
    return images


def _docker_image(
    archive: Named, entry: dict[str, Any], what: str
) -> tuple[Manifest, ArchiveSource]:
    """An image that has no manifest: one is made."""
    try:
        config = archive[posixpath.normpath(entry["Config"])].read()
        ids = json.loads(config)["rootfs"]["diff_ids"]
        files = [archive[posixpath.normpath(path)] for path in entry["Layers"] or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _error(f"its manifest.json does not fit its files ({error})") from None
    if len(ids) != len(files):
        raise _error("config and manifest.json disagree about the layers")
    config_digest = "sha256:" + hashlib.sha256(config).hexdigest()
    layers = [_layer(member, diff_id) for member, diff_id in zip(files, ids)]
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": len(config)},
            "layers": [
                {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
                for layer in layers
            ],
        }
    ).encode()
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    blobs = {layer.digest: member for layer, member in zip(layers, files)}
    manifest = parse_manifest(raw, digest, OCI_MANIFEST, what)
    return manifest, ArchiveSource(blobs, {config_digest: config})


def _tagged(images: Any, name: str) -> dict[str, Any]:
    if not images:
        raise _error("it has no image")
    full = canonical_name(name)
    known = [(item, [canonical_name(tag) for tag in item.get("RepoTags") or ()]) for item in images]
    for item, tags in known:
        if full in tags:
            return dict(item)
    if len(known) == 1:
        return dict(known[0][0])
    raise _ambiguous(sorted(tag for _, tags in known for tag in tags), name)


def _layer(member: Member, diff_id: str) -> Descriptor:
    """Layers of `docker save` are plain tars, whose digest is the diff id; other tools compress them."""
    head = next(member.stream(), b"")
    if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        digest = hashlib.sha256()
        for chunk in member.stream():
            digest.update(chunk)
        suffix = "+gzip" if head.startswith(b"\x1f\x8b") else "+zstd"
        return Descriptor("sha256:" + digest.hexdigest(), member.size, OCI_LAYER + suffix)
    return Descriptor(diff_id, member.size, OCI_LAYER)


def _ambiguous(names: list[str], name: str) -> HostctlError:
    return HostctlError(
        f"cannot find {name} in the archive: it has {', '.join(names) or 'several images without names'}",
        hint="use one of these names for the image, or save only one image",
        ref="archive-image",
    )


def _error(cause: str) -> HostctlError:
    return HostctlError(f"cannot use the archive: {cause}", ref="archive-image")
