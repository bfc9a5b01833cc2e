"""Runs on the controller: a build's context: its files by digest, without what .dockerignore leaves out."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from hostctl_host.contract.dockerfile.ignore import Below, Patterns, ignore_files
from hostctl_host.contract.errors import HostctlError

from .content import Content

Entry = list[object]


def listing(content: Content, folder: Path, dockerfile: Path | None) -> str:
    """The digest of a context's listing (`contract/build.py`), which goes into the content with its files.

    Args:
        dockerfile: the file whose `.dockerignore` goes before the context's; None: of a context with a name.
    Raises:
        HostctlError: the folder cannot be read.
    """
    entries: list[Entry] = []
    patterns = read_ignore(folder, dockerfile)
    try:
        _walk(content, folder, "", patterns, (), False, entries)
    except OSError as error:
        raise HostctlError(
            f"cannot read the context {folder}: {error.filename or ''}: {error.strerror}",
            hint="leave out what is not needed in .dockerignore",
            ref="build-context",
        ) from error
    return content.add(json.dumps(sorted(entries), ensure_ascii=True).encode())


def read_ignore(folder: Path, dockerfile: Path | None) -> Patterns:
    """What a context leaves out, by the .dockerignore of the Dockerfile or its own."""
    places = [folder / ".dockerignore"]
    if dockerfile is not None:
        places.insert(0, dockerfile.parent / ignore_files(dockerfile.name)[0])
    for place in places:
        if place.is_file():
            return Patterns.read(place.read_text(encoding="utf-8", errors="surrogateescape"))
    return Patterns(())


def _walk(
    content: Content,
    root: Path,
    path: str,
    patterns: Patterns,
    above: Below,
    hidden: bool,
    entries: list[Entry],
) -> None:
    """`hidden`: the folder itself is left out; what is taken back in it brings it along."""
    with os.scandir(root / path) as found:
        names = sorted(found, key=lambda entry: entry.name)
    for entry in names:
        name = f"{path}/{entry.name}" if path else entry.name
        excluded, below = patterns.enter(name, above) if patterns.patterns else (False, ())
        status = entry.stat(follow_symlinks=False)
        mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        if stat.S_ISDIR(status.st_mode):
            if not excluded:
                entries.append([name, "d", mode, mtime, 0, ""])
            elif patterns.prunes(name):
                continue
            _walk(content, root, name, patterns, below, excluded, entries)
        elif excluded:
            continue
        elif stat.S_ISLNK(status.st_mode):
            entries.append([name, "l", 0o777, mtime, 0, os.readlink(root / name)])
        elif stat.S_ISREG(status.st_mode):
            entries.append([name, "f", mode, mtime, status.st_size, content.file(root / name)])
