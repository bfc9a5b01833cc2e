"""Runs on the managed host, inside a container's root: who `user[:group]` is, by the container's files."""

from __future__ import annotations

import os

from .config import RuntimeFailure

_LIMIT = 4 << 20


class Identity:
    """Numbers of a user, and the home folder that its entry names (empty without an entry)."""

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def lookup(text: str) -> Identity:
    """Names or numbers. Without a group: the entry's group and its supplementary ones, as Docker."""
    name, _, group = text.partition(":")
    entry = _entry("/etc/passwd", name or "0", 7)
    if entry is None and not _number(name or "0"):
        raise RuntimeFailure(
            f"cannot run as user {name}: the container's /etc/passwd has no such user",
            hint='use a number, such as `user: "1000:1000"`',
            ref="no-user",
        )
    uid = int(entry[2]) if entry else int(name or 0)
    home = entry[5] if entry else ""
    if group:
        return Identity(uid, _group(group), (), home)
    gid = int(entry[3]) if entry else 0
    groups = tuple(
        sorted(
            int(line[2])
            for line in _lines("/etc/group", 4)
            if entry and entry[0] in line[3].split(",") and line[2].isdigit()
        )
    )
    return Identity(uid, gid, groups, home)


def home_of(uid: int) -> str:
    """The home folder of a number; `/` where no entry has it."""
    entry = _entry("/etc/passwd", str(uid), 7)
    return (entry[5] if entry else "") or "/"


def _group(text: str) -> int:
    entry = _entry("/etc/group", text, 4)
    if entry is None and not _number(text):
        raise RuntimeFailure(
            f"cannot run as group {text}: the container's /etc/group has no such group",
            hint='use a number, such as `user: "1000:1000"`',
            ref="no-group",
        )
    return int(entry[2]) if entry else int(text)


def _number(text: str) -> bool:
    return text.isdigit() and int(text) < 1 << 31


def _entry(path: str, key: str, fields: int) -> list[str] | None:
    lines = _lines(path, fields)
    named = (line for line in lines if line[0] == key and line[2].isdigit())
    numbered = (line for line in lines if line[2] == key)
    return next(named, None) or next(numbered, None)


def _lines(path: str, fields: int) -> list[list[str]]:
    try:
        # Not blocking: the image may hold a pipe there.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with open(fd, "rb", buffering=0) as stream:
        # Room for what it says that it has: a buffer of the limit's size would be mapped and given back.
        data = stream.read(min(os.fstat(fd).st_size, _LIMIT))
    text = data.decode("utf-8", "surrogateescape") if data else ""
    rows = (line.split(":") for line in text.splitlines())
    return [row for row in rows if len(row) >= fields]
