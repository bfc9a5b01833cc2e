"""Runs on the managed host: what lies at a path, and how the file kinds make it so.

Shared by the kinds file, directory, copy and template: an `Entry` is what was found, `attributes`
compares owner, group and mode, `place` writes content the safe way.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
from dataclasses import dataclass

from ..contract.change import Action, Change, Reason
from ..contract.errors import CannotApply, CannotObserve
from .files import write_atomic

TEXT_LIMIT = 128 << 10


@dataclass(frozen=True)
class Entry:
    """One directory entry, not followed when it is a symbolic link.

    `type` is file, directory, link or other; `digest` is the sha256 of a file's content; `text` its content
    where it was asked for and is short UTF-8; `target` where a link points.
    """

    type: str
    owner: str
    group: str
    mode: str
    digest: str = ""
    text: str | None = None
    target: str = ""


def read_entry(path: str, *, content: bool = False) -> Entry | None:
    """What lies at `path`, or None.

    Raises:
        CannotObserve: it is there, or may be, and cannot be read.
    """
    try:
        status = os.lstat(path)
        digest, text, target = "", None, ""
        if stat.S_ISREG(status.st_mode) and content:
            digest, text = _content(path)
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CannotObserve(
            f"cannot read {path}: {error.strerror}", hint="set `become: true` to read it as root"
        ) from error
    return Entry(
        type=_type(status.st_mode),
        owner=user_name(status.st_uid),
        group=group_name(status.st_gid),
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        digest=digest,
        text=text,
        target=target,
    )


def _type(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def _content(path: str) -> tuple[str, str | None]:
    """(sha256, text if it is short UTF-8); read in pieces, without following a link."""
    total = hashlib.sha256()
    kept = bytearray()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        while True:
            piece = stream.read(1 << 20)
            if not piece:
                break
            total.update(piece)
            if len(kept) <= TEXT_LIMIT:
                kept += piece[: TEXT_LIMIT + 1]
    return total.hexdigest(), as_text(bytes(kept))


def as_text(data: bytes) -> str | None:
    """The bytes as text, or None where they are long, binary or not UTF-8."""
    if len(data) > TEXT_LIMIT or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def text_diff(before: str | None, after: str | None, path: str) -> str:
    """A unified diff with three lines of context; empty where either side is no text."""
    if before is None or after is None:
        return ""
    import difflib

    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), path, path, n=3
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def attributes(entry: Entry | None, owner: str, group: str, mode: str) -> list[Change]:
    """Changes of owner, group and mode; what is not wanted (empty) is left out."""
    if entry is None:
        wanted = (("owner", owner), ("group", group), ("mode", mode))
        return [
            Change(Action.CREATE, name, after=value, reason=Reason.ABSENT)
            for name, value in wanted
            if value
        ]
    pairs = (
        ("owner", entry.owner, owner and user_label(owner)),
        ("group", entry.group, group and group_label(group)),
        ("mode", entry.mode, mode),
    )
    return [
        Change(Action.UPDATE, field=name, before=before, after=after)
        for name, before, after in pairs
        if after and before != after
    ]


def set_attributes(path: str, owner: str, group: str, mode: str) -> None:
    """Give an existing entry its owner, group and mode (empty: as it is); links are not followed."""
    check_parents(path)
    try:
        if owner or group:
            os.chown(path, user_id(owner), group_id(group), follow_symlinks=False)
        if mode and not os.path.islink(path):
            os.chmod(path, int(mode, 8))
    except OSError as error:
        raise CannotApply(
            f"cannot set owner and mode of {path}: {error.strerror}", hint="set `become: true`"
        ) from error


def place_link(path: str, target: str, *, hard: bool = False) -> None:
    """Make a link: beside the path under another name, then renamed over it."""
    check_parents(path)
    temp = f"{path}.hostctl-{os.getpid()}"
    try:
        if os.path.lexists(temp):
            os.unlink(temp)
        if hard:
            os.link(target, temp)
        else:
            os.symlink(target, temp)
        os.rename(temp, path)
    except OSError as error:
        if os.path.lexists(temp):
            os.unlink(temp)
        raise CannotApply(f"cannot link {path}: {error.strerror}", hint=_hint(error)) from error


def check_parents(path: str) -> None:
    """As root, refuse a path that leads through somebody else's link: it may end anywhere.

    The kernel's own rule for /tmp (proc_sys_fs(5), protected_symlinks), for every folder.

    Raises:
        CannotApply: naming the link and its owner.
    """
    if os.geteuid() != 0:
        return
    parent = os.path.dirname(path)
    while parent not in ("/", ""):
        try:
            status = os.lstat(parent)
        except OSError:
            status = None
        if status is not None and stat.S_ISLNK(status.st_mode) and status.st_uid != 0:
            raise CannotApply(
                f"cannot write {path} as root: {parent} is a link that {user_name(status.st_uid)} made",
                hint=f"name the place itself ({os.path.realpath(parent)}), or remove the link",
                ref="foreign-link",
            )
        parent = os.path.dirname(parent)


def place(path: str, data: bytes, entry: Entry | None, owner: str, group: str, mode: str) -> None:
    """Write a file's content; owner and mode are the wanted ones, else the present ones, else root's 0644."""
    check_parents(path)
    uid = user_id(owner or (entry.owner if entry else ""))
    gid = group_id(group or (entry.group if entry else ""))
    bits = int(mode or (entry.mode if entry and entry.type == "file" else "0644"), 8)
    if os.path.isdir(path) and not os.path.islink(path):
        raise CannotApply(
            f"cannot write {path}: it is a directory", hint="name the file in it: `dest: DIR/NAME`"
        )
    try:
        write_atomic(path, data, bits, uid, gid)
    except FileNotFoundError as error:
        raise CannotApply(
            f"cannot write {path}: there is no folder {os.path.dirname(path)}",
            hint=f"declare `directory: {{path: {os.path.dirname(path)}}}` before it",
        ) from error
    except OSError as error:
        raise CannotApply(f"cannot write {path}: {error.strerror}", hint=_hint(error)) from error


def remove(path: str) -> None:
    """Remove what lies at the path, whole trees included; links are removed, not followed."""
    check_parents(path)
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            from . import trees

            trees.remove(path)
        elif os.path.lexists(path):
            os.unlink(path)
    except OSError as error:
        raise CannotApply(
            f"cannot remove {path}: {error.strerror}", hint="set `become: true`"
        ) from error


def _hint(error: OSError) -> str:
    import errno

    if error.errno == errno.ENOSPC:
        return "free some space on the host, then apply again"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "set `become: true`"
    return ""


def user_name(uid: int) -> str:
    """The user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The group's name, or the number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def user_label(owner: str) -> str:
    """A wanted owner as `user_name` would say it (a number that has a name becomes the name)."""
    return user_name(int(owner)) if owner.isdigit() else owner


def group_label(group: str) -> str:
    """A wanted group as `group_name` would say it."""
    return group_name(int(group)) if group.isdigit() else group


def user_id(owner: str) -> int:
    """The uid of a name or number; -1 (leave alone) for the empty string."""
    if not owner:
        return -1
    if owner.isdigit():
        return int(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise CannotApply(
            f"cannot give the file to {owner}: there is no such user",
            hint=f"declare `user: {{name: {owner}}}` before it",
        ) from None


def group_id(group: str) -> int:
    """The gid of a name or number; -1 (leave alone) for the empty string."""
    if not group:
        return -1
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise CannotApply(
            f"cannot give the file to group {group}: there is no such group",
            hint=f"declare `group: {{name: {group}}}` before it",
        ) from None
