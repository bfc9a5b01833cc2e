"""Runs on the managed host: what builds made before: key of a step -> the layer it gave.

`DATA/build/cache/KEY` is JSON: `{"diff_id", "size", "created"}` of a step, `{"created"}` of an image. A key is a
hash of all that a step depends on: the layers below, the command, the content of its files. So a record is
true for ever; it counts only as long as the store has its layer, and the store keeps the layers of all records.
"""

from __future__ import annotations

import os
from typing import Any

from ..agent.files import private_folder, read_json, write_json
from ..contract.document import canonical, digest

KEPT_SECONDS = 14 * 86400
"""How long a record stays that no build has used."""


def folder(data: str) -> str:
    """Where the records are."""
    return os.path.join(data, "build", "cache")


def whole(data: str) -> str:
    """Where it is written what whole builds went through (`recall`)."""
    return os.path.join(data, "build", "whole")


def key(*parts: Any) -> str:
    """The key of a step that depends on these JSON values."""
    return digest(canonical(list(parts)))


def read(data: str, name: str) -> dict[str, Any] | None:
    """A record, or None."""
    found = read_json(os.path.join(folder(data), name))
    return found if isinstance(found, dict) else None


def write(data: str, name: str, record: dict[str, Any]) -> None:
    """Keep a record."""
    private_folder(folder(data))
    write_json(os.path.join(folder(data), name), record, sync=False)


def used(data: str, names: list[str]) -> None:
    """Note that a build has used these."""
    for name in names:
        try:
            os.utime(os.path.join(folder(data), name))
        except FileNotFoundError:
            continue


def tidy(data: str, oldest: float) -> None:
    """Remove records that were last used before this time; their layers go with the next collection of the store."""
    for parent in (folder(data), whole(data)):
        for name in _names(parent):
            path = os.path.join(parent, name)
            try:
                if os.stat(path).st_mtime < oldest:
                    os.unlink(path)
            except FileNotFoundError:
                continue


def kept(data: str) -> set[str]:
    """Hex digests of the layers and blobs that records name."""
    found = (read(data, name) for name in _names(folder(data)))
    return {record["diff_id"] for record in found if record and "diff_id" in record}


def _names(parent: str) -> list[str]:
    try:
        return [name for name in os.listdir(parent) if not name.startswith(".")]
    except FileNotFoundError:
        return []
