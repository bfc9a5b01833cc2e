"""Runs on the managed host: what COPY and ADD take from: a context's listing, or a folder; looked at alike.

Links are followed inside of the tree only; whoever climbs above its root stays there, as in a chroot.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from typing import Any, Protocol

from ..contract.errors import HostctlError

_LINKS = 40
FILE, FOLDER, LINK, OTHER = "f", "d", "l", "o"


@dataclass(frozen=True)
class Node:
    """One file, folder or link.

    Attributes:
        kind: `f`, `d`, `l`, or `o` for what cannot be copied.
        source: of a file where its bytes are (a digest, or a path); of a link its target.
        inode: tells names of one file from one another; 0 where nobody knows.
    """

    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    source: str = ""
    inode: int = 0


class Tree(Protocol):
    """Paths are relative, without `.` and `..`; the root is the empty path."""

    def look(self, path: str) -> Node | None:
        """What is there; no link is followed."""

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted."""


class Listing:
    """A context that was listed elsewhere: `[path, kind, mode, mtime in ns, size, digest or link target]`."""

    def __init__(self, entries: list[list[Any]]) -> None:
        self._nodes = {"": Node(FOLDER)}
        self._below: dict[str, list[str]] = {"": []}
        for path, kind, mode, mtime_ns, size, source in sorted(entries):
            self._nodes[path] = Node(kind, mode, 0, 0, mtime_ns, size, source)
            parent, _, name = path.rpartition("/")
            while parent not in self._nodes:
                self._nodes[parent] = Node(FOLDER)
                above, _, base = parent.rpartition("/")
                self._below.setdefault(above, []).append(base)
                parent = above
            self._below.setdefault(path.rpartition("/")[0], []).append(name)

    def summary(self) -> dict[str, str]:
        """Path -> what a change of it changes, for who compares two listings."""
        return {
            path: f"{node.kind}{node.mode:o} {node.source}"
            for path, node in self._nodes.items()
            if path
        }

    def look(self, path: str) -> Node | None:
        return self._nodes.get(path)

    def names(self, path: str) -> list[str]:
        return sorted(set(self._below.get(path, ())))


class Folder:
    """A folder of this host that nobody changes meanwhile."""

    def __init__(self, root: str) -> None:
        self.root = root

    def look(self, path: str) -> Node | None:
        full = os.path.join(self.root, path)
        try:
            found = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind, source = OTHER, full
        if stat.S_ISREG(found.st_mode):
            kind = FILE
        elif stat.S_ISDIR(found.st_mode):
            kind = FOLDER
        elif stat.S_ISLNK(found.st_mode):
            kind, source = LINK, os.readlink(full)
        return Node(
            kind,
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
            found.st_mtime_ns,
            found.st_size,
            source,
            found.st_ino if found.st_nlink > 1 else 0,
        )

    def names(self, path: str) -> list[str]:
        return sorted(os.listdir(os.path.join(self.root, path)))


def resolve(tree: Tree, path: str, *, follow: bool = True) -> tuple[str, Node] | None:
    """The real path of what is there, and what it is; None if nothing is.

    Args:
        follow: also a link at the path's end.
    Raises:
        HostctlError: links that lead to one another.
    """
    todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
    real: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            real = real[:-1]
            continue
        node = tree.look("/".join([*real, part]))
        if node is None:
            return None
        if node.kind == LINK and (todo or follow):
            links += 1
            if links > _LINKS:
                raise HostctlError(
                    f"cannot use {path}: its links lead to one another", ref="build-source"
                )
            if node.source.startswith("/"):
                real = []
            todo += [step for step in node.source.split("/") if step not in ("", ".")][::-1]
            continue
        if todo and node.kind != FOLDER:
            return None
        real.append(part)
    where = "/".join(real)
    found = tree.look(where)
    return (where, found) if found is not None else None


def clean(path: str) -> str:
    """A source as a path below the root: `..` ends there."""
    return posixpath.normpath("/" + path).strip("/")
