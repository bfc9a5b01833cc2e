"""Runs on the managed host: which files the sources of a COPY or ADD mean, and where below the destination they go."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

from ..contract.dockerfile.ignore import Patterns
from ..contract.dockerfile.wildcard import match
from ..contract.errors import HostctlError
from .trees import FILE, FOLDER, Node, Tree, clean, resolve

_WILD = "*?[\\"


@dataclass(frozen=True)
class Item:
    """One file, folder or link that is copied.

    Attributes:
        target: below the destination; empty: the destination itself (the top of a folder that is copied).
        path: in the tree, for messages and cache keys.
    """

    target: str
    path: str
    node: Node


@dataclass(frozen=True)
class Selection:
    """What is copied. `is_folder`: the destination must be a folder, whatever it looks like."""

    items: tuple[Item, ...]
    is_folder: bool


def select(
    tree: Tree, sources: Sequence[str], exclude: Sequence[str] = (), *, parents: bool = False
) -> Selection:
    """All that the sources mean, folders before what is in them.

    Raises:
        HostctlError: `build-source`: a source is not there. Wildcards may match nothing, as with BuildKit.
    """
    excluded = _matcher(exclude)
    items: list[Item] = []
    is_folder = len(sources) > 1 or parents
    for source in sources:
        pivot, path = _pivot(source) if parents else ("", clean(source))
        wild = any(char in path for char in _WILD)
        found = list(_matches(tree, path)) if wild else [path]
        is_folder = is_folder or len(found) > 1
        some = False
        for one in found:
            there = resolve(tree, one)
            if there is None:
                continue
            some = True
            items += _one(tree, one, *there, pivot if parents else None, excluded)
        optional = any(char in path for char in "*?[") and (not found or exclude)
        if not some and not optional:
            raise HostctlError(
                f"cannot copy {source}: there is no such file",
                hint="sources are relative to the context, and .dockerignore may leave them out",
                ref="build-source",
            )
    return Selection(tuple(items), is_folder)


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    if not patterns:
        return lambda _: False
    return Patterns(patterns).excludes


def _pivot(source: str) -> tuple[str, str]:
    """What `/./` in a source of --parents leaves out of the destination, and the whole path."""
    before, sign, _ = source.partition("/./")
    return (clean(before) if sign else ""), clean(source)


def _matches(tree: Tree, pattern: str) -> Iterator[str]:
    """Go's filepath.Glob: part by part; with `**` at any depth."""
    waiting = [("", [part for part in pattern.split("/") if part])]
    while waiting:
        path, parts = waiting.pop(0)
        if not parts:
            yield path
            continue
        there = resolve(tree, path)
        if there is None or there[1].kind != FOLDER:
            continue
        for base in tree.names(there[0]):
            below = posixpath.join(path, base)
            if parts[0] == "**":
                waiting.append((below, parts))
                if len(parts) > 1 and match(parts[1], base):
                    waiting.append((below, parts[2:]))
                elif len(parts) == 1:
                    yield below
            elif match(parts[0], base):
                waiting.append((below, parts[1:]))


def _one(
    tree: Tree, path: str, real: str, node: Node, pivot: str | None, excluded: Callable[[str], bool]
) -> Iterator[Item]:
    base = ""
    if pivot is not None:
        base = path[len(pivot) :].lstrip("/") if path.startswith(pivot) else path
        above = ""
        for part in base.split("/")[:-1]:
            above = posixpath.join(above, part)
            parent = resolve(tree, posixpath.join(pivot, above))
            if parent is not None:
                yield Item(above, parent[0], parent[1])
    if node.kind != FOLDER:
        name = base or posixpath.basename(path)
        if not excluded(name):
            yield Item(name, path, node)
        return
    yield Item(base, path, node)
    folders = [(real, base, "")]
    while folders:
        folder, target, relative = folders.pop()
        for entry in tree.names(folder):
            below = posixpath.join(folder, entry)
            inside = posixpath.join(relative, entry)
            found = tree.look(below)
            if found is None:
                continue
            left_out = excluded(posixpath.join(base, inside) if pivot is not None else inside)
            if found.kind == FOLDER:
                folders.append((below, posixpath.join(target, entry), inside))
                if left_out:
                    continue
            elif left_out:
                continue
            yield Item(posixpath.join(target, entry), below, found)


def contents(items: Sequence[Item], chmod: str) -> list[list[object]]:
    """What a cache key has to know of them: no times, and no modes that are replaced."""
    return [
        [
            item.target,
            item.node.kind,
            0 if chmod and chmod.isdigit() else item.node.mode,
            item.node.uid,
            item.node.gid,
            item.node.source if item.node.kind != FOLDER else "",
        ]
        for item in items
    ]


def blobs(items: Sequence[Item]) -> set[str]:
    """Digests of the files, where the tree is a listing."""
    return {item.node.source for item in items if item.node.kind == FILE}
