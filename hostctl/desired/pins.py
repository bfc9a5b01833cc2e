"""Runs on the controller: the lock file beside a playbook: which digest each tag means (`--pin`).

JSON, so that it is YAML too: `{"version": 1, "images": {REFERENCE: {"digest": "sha256:..."}}}`. The digest is
that of the index where a tag has one, so hosts of all platforms share it.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hostctl_host.contract.document import Resource
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.reference import parse

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION = 1


class Pins:
    """The lock file of a playbook during one run.

    Args:
        digests: reference -> digest, as the file has them.
        refresh: take what the tags stand for now (`--pin`).
    """

    def __init__(self, path: Path, digests: Mapping[str, str], refresh: bool) -> None:
        self.path = path
        self.refresh = refresh
        self._digests = dict(digests)
        self._used: dict[str, str] = {}  # image's name -> reference
        self._found: dict[str, dict[str, list[str]]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, playbook: Path, refresh: bool) -> Pins | None:
        """The playbook's; None where it has none and none is to be made.

        Raises:
            HostctlError: `bad-lock`: the file cannot be read.
        """
        path = playbook.with_name(playbook.name + ".lock")
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls(path, {}, True) if refresh else None
        except (OSError, UnicodeDecodeError) as error:
            raise _bad(path, str(error)) from error
        return cls(path, _read(path, text), refresh)

    def mark(self, resources: Iterable[Resource]) -> tuple[Resource, ...]:
        """The resources, each image that is pulled by a tag with its digest, or to be asked for it."""
        return tuple(self._marked(one) if one.kind == "image" else one for one in resources)

    def _marked(self, resource: Resource) -> Resource:
        spec = resource.spec
        made = any(spec.get(key) for key in ("build", "bootstrap", "content", "archive"))
        if not spec or made or spec.get("state", "present") != "present":
            return resource
        try:
            reference = parse(str(spec.get("pull") or spec["name"]))
        except HostctlError:
            return resource
        if reference.digest:
            return resource
        with self._lock:
            self._used[str(spec["name"])] = str(reference)
        if self.refresh:
            return replace(resource, spec={**spec, "repin": True})
        digest = self._digests.get(str(reference))
        return replace(resource, spec={**spec, "pin": digest}) if digest else resource

    def take(self, host: str, image: str, digest: str) -> None:
        """What a host found under the tag that an image is pulled by."""
        with self._lock:
            hosts = self._found.setdefault(self._used.get(image, image), {})
            hosts.setdefault(digest, []).append(host)

    def finish(self, *, whole: bool) -> list[str]:
        """Write the file where it is to be refreshed; lines for people.

        Args:
            whole: the run was of the whole playbook on all its hosts, so what it did not use is used nowhere.
        Raises:
            HostctlError: a tag moved meanwhile, or the file cannot be written.
        """
        unused = sorted(set(self._digests) - set(self._used.values())) if whole else []
        if not self.refresh:
            return [
                f"{self.path.name}: {name} is no longer used (--pin removes it)" for name in unused
            ]
        lines = [f"{self.path.name}: {name} is no longer used: removed" for name in unused]
        digests = {name: one for name, one in self._digests.items() if name not in unused}
        for name, by_digest in sorted(self._found.items()):
            if len(by_digest) > 1:
                seen = "; ".join(f"{hosts[0]} saw {one[:19]}" for one, hosts in by_digest.items())
                raise HostctlError(
                    f"cannot pin {name}: its tag moved meanwhile: {seen}",
                    where=str(self.path),
                    hint="run it again",
                    ref="tag-moved",
                )
            digest = next(iter(by_digest))
            before = digests.get(name)
            if before != digest:
                change = f"{before[:19]} -> {digest[:19]}" if before else digest[:19]
                lines.append(f"{self.path.name}: {name} {change}")
            digests[name] = digest
        self._write(digests)
        return lines

    def _write(self, digests: Mapping[str, str]) -> None:
        images = {name: {"digest": digests[name]} for name in sorted(digests)}
        text = json.dumps({"version": _VERSION, "images": images}, indent=2) + "\n"
        temp = self.path.with_name(f".{self.path.name}.hostctl-{os.getpid()}")
        try:
            if self.path.exists() and self.path.read_text(encoding="utf-8") == text:
                return
            with temp.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temp.replace(self.path)
        except OSError as error:
            raise HostctlError(
                f"cannot write {self.path}: {error.strerror}", ref="lock-not-written"
            ) from error
        finally:
            temp.unlink(missing_ok=True)


def _read(path: Path, text: str) -> dict[str, str]:
    try:
        data: Any = json.loads(text)
    except ValueError as error:
        raise _bad(path, f"it is no JSON: {error}") from error
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise _bad(path, f"it is not of version {_VERSION}")
    images = data.get("images")
    if not isinstance(images, dict):
        raise _bad(path, "it has no map `images`")
    out: dict[str, str] = {}
    for name, entry in images.items():
        digest = entry.get("digest") if isinstance(entry, dict) else None
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise _bad(path, f"{name} has no digest (sha256: and 64 hex digits)")
        out[name] = digest
    return out


def _bad(path: Path, why: str) -> HostctlError:
    return HostctlError(
        f"cannot use the lock file: {why}",
        where=str(path),
        hint="hostctl plan PLAYBOOK --pin makes a new one once it is removed",
        ref="bad-lock",
    )
