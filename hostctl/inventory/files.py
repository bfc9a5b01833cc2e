"""Runs on the controller: `group_vars/` and `host_vars/`: files and folders of files, by name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError

from ..yaml import Map, load_file

SUFFIXES = ("", ".yml", ".yaml", ".json")


def folder_variables(
    folders: Iterable[Path], kind: str, names: Iterable[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Variables of each name from `FOLDER/KIND/`, least binding first, with the file as source."""
    out: list[tuple[str, dict[str, Any]]] = []
    there = [(folder / kind, _listing(os.fspath(folder / kind))) for folder in folders]
    for name in names:
        for folder, listing in there:
            for entry in _entries(name, listing):
                out += _read_all(os.fspath(folder / entry))
    return out


def _entries(name: str, listing: frozenset[str]) -> list[str]:
    return [name + suffix for suffix in SUFFIXES if name + suffix in listing]


@lru_cache(maxsize=256)
def _listing(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


@lru_cache(maxsize=4096)
def _read_all(path: str) -> list[tuple[str, dict[str, Any]]]:
    if os.path.isdir(path):
        out: list[tuple[str, dict[str, Any]]] = []
        for name in sorted(os.listdir(path)):
            below = os.path.join(path, name)
            hidden = name.startswith(".") or name.endswith("~")
            if not hidden and (os.path.isdir(below) or os.path.splitext(name)[1] in SUFFIXES):
                out += _read_all(below)
        return out
    return [(path, read_variables(path))]


def read_variables(path: str) -> dict[str, Any]:
    """A file of variables: a map, or nothing."""
    value = load_file(display(path))
    if value is None:
        return {}
    if not isinstance(value, Map):
        raise HostctlError(
            "cannot read the variables: the file is no map of names to values",
            where=f"{display(path)}:1:1",
            ref="vars-no-map",
        )
    return value


def display(path: str) -> str:
    """A path as people write it: relative where it lies below the current folder."""
    if os.path.isabs(path):
        relative = os.path.relpath(path)
        return path if relative.startswith("..") else relative
    return os.path.normpath(path)


def forget() -> None:
    """Drop what was read (for tests and for programs that run longer than one command)."""
    _listing.cache_clear()
    _read_all.cache_clear()
