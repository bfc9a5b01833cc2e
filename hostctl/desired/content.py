"""Runs on the controller: content that travels by digest: rendered templates, files, image archives.

The kinds that have content (`copy`, `template`, `image`) are treated here and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..playbook.errors import Collector
    from ..template import Engine, Scope
    from ..yaml import Place

SIZE_LIMIT = 256 << 20
_BLOB = re.compile(r"(?:.*/)?blobs/sha256/([0-9a-f]{64})\Z")


@dataclass(frozen=True)
class Part:
    """Bytes inside a file of the controller."""

    path: str
    offset: int
    size: int


class Content:
    """The blobs of a run, by sha256. Small ones are kept in memory, parts of archives stay in their files."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes | Part] = {}
        self._files: dict[str, tuple[tuple[int, int], str]] = {}
        self._archives: dict[str, dict[str, str]] = {}

    def add(self, data: bytes) -> str:
        """Keep bytes; their digest."""
        name = hashlib.sha256(data).hexdigest()
        self.blobs[name] = data
        return name

    def add_part(self, part: Part, name: str = "") -> str:
        """Refer to bytes in a file; their digest (computed unless it is known)."""
        if not name:
            name = _digest_of(part)
        self.blobs.setdefault(name, part)
        return name

    def size(self, digest: str) -> int:
        blob = self.blobs[digest]
        return blob.size if isinstance(blob, Part) else len(blob)

    def read(self, digest: str) -> bytes:
        """The bytes of a blob. Raises KeyError for one that this run does not have."""
        blob = self.blobs[digest]
        if isinstance(blob, bytes):
            return blob
        with open(blob.path, "rb") as stream:
            stream.seek(blob.offset)
            return stream.read(blob.size)

    def file(self, path: Path) -> str:
        """Keep a file by reference; read again only if it changed."""
        found = path.stat()
        key, stamp = os.fspath(path), (found.st_mtime_ns, found.st_size)
        if key not in self._files or self._files[key][0] != stamp:
            self._files[key] = (stamp, self.add_part(Part(key, 0, found.st_size)))
        return self._files[key][1]

    def archive(self, path: Path) -> dict[str, str]:
        """Path inside an image archive -> digest: an OCI layout as folder or tar, or a `docker save` file.

        Raises:
            ValueError: it is neither.
        """
        key = os.fspath(path)
        if key not in self._archives:
            names = self._folder(path) if path.is_dir() else self._tar(path)
            if "index.json" not in names and "manifest.json" not in names:
                raise ValueError(
                    "it holds neither index.json (OCI layout) nor manifest.json (docker save)"
                )
            self._archives[key] = names
        return self._archives[key]

    def _folder(self, path: Path) -> dict[str, str]:
        out = {}
        for below in sorted(path.rglob("*")):
            if below.is_file():
                name = below.relative_to(path).as_posix()
                known = _BLOB.match(name)
                part = Part(os.fspath(below), 0, below.stat().st_size)
                out[name] = self.add_part(part, known[1] if known else "")
        return out

    def _tar(self, path: Path) -> dict[str, str]:
        import tarfile

        out: dict[str, str] = {}
        links: dict[str, str] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    name = os.path.normpath(member.name)
                    if member.isfile():
                        known = _BLOB.match(name)
                        part = Part(os.fspath(path), member.offset_data, member.size)
                        out[name] = self.add_part(part, known[1] if known else "")
                    elif member.issym():
                        links[name] = os.path.normpath(
                            os.path.join(os.path.dirname(name), member.linkname)
                        )
                    elif member.islnk():
                        links[name] = os.path.normpath(member.linkname)
        except tarfile.TarError as error:
            raise ValueError(f"it is no plain tar file ({error})") from error
        for name, target in links.items():
            if target in out:
                out[name] = out[target]
        return out


def _digest_of(part: Part) -> str:
    found = hashlib.sha256()
    left = part.size
    with open(part.path, "rb") as stream:
        stream.seek(part.offset)
        while left and (piece := stream.read(min(left, 1 << 20))):
            found.update(piece)
            left -= len(piece)
    return found.hexdigest()


def fill(
    kind: str,
    data: dict[str, Any],
    raw: Any,
    place: Place,
    scope: Scope,
    engine: Engine,
    content: Content,
    errors: Collector,
) -> dict[str, Any] | None:
    """The arguments of `copy` or `template` with `digest` in place of `src` and `content`.

    Raises:
        Deferred, UnknownResult, TemplateError: from a template file.
    """
    if data.get("state") == "absent":
        return data
    data = dict(data)
    src, text = data.pop("src", None), data.pop("content", None)
    if (src is None) == (text is None):
        what = "both src and content" if src is not None else "neither src nor content"
        errors.add(f"cannot use {kind}: it has {what}", where=place, ref="copy-source")
        return None
    if text is not None:
        if kind == "template":
            errors.add(
                "cannot use the key 'content' in template",
                where=place.key(raw, "content"),
                hint="use copy",
                ref="unknown-key",
            )
            return None
        data["digest"] = content.add(_as_bytes(text))
        return data
    where = place.key(raw, "src")
    path = engine.find(str(src), "templates" if kind == "template" else "files")
    if path is None:
        from ..inventory.files import display

        folders = engine.search("templates" if kind == "template" else "files")
        errors.add(
            f"cannot find {src}",
            where=where,
            hint=f"looked in {' and '.join(display(folder) for folder in folders)}",
            ref="file-missing",
        )
        return None
    if path.is_dir():
        errors.add(
            f"not supported yet: {kind} of a folder ({src})", where=where, ref="not-supported"
        )
        return None
    if isinstance(data.get("dest"), str) and data["dest"].endswith("/"):
        name = path.name.removesuffix(".j2") if kind == "template" else path.name
        data["dest"] += name
    try:
        if kind == "template":
            data["digest"] = content.add(engine.file(scope, path))
        else:
            data["digest"] = content.file(path)
    except OSError as error:
        errors.add(
            f"cannot read {src}: {(error.strerror or '').lower()}",
            where=where,
            ref="file-unreadable",
        )
        return None
    return data


def _as_bytes(text: Any) -> bytes:
    if isinstance(text, str):
        return text.encode()
    from ..template.filters import to_json

    return b"" if text is None else to_json(text).encode()
