"""Runs on the managed host, in the agent: users and groups by the image's own files, and capabilities."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ..contract.compose.isolation import DEFAULT_CAPABILITIES
from ..contract.errors import CannotApply
from ..contract.kernel import CAPABILITY_NAMES

if TYPE_CHECKING:
    from ..container import Spec

_HINT = 'use a number, such as `user: "1000:1000"`'


def identity(user: str, added: tuple[str, ...], layers: list[str]) -> tuple[int, int, list[int]]:
    """(uid, gid, supplementary gids) of `user` or `user:group`, by names or numbers.

    The gid is among the supplementary ones, as login(1) has it: else a program could drop it by becoming
    another group, and get around a mode that refuses the group what others may.

    Args:
        added: further groups (`group_add`).
        layers: the image's unpacked layers, top first.
    Raises:
        CannotApply: the image has no such user or group.
    """
    name, _, group = user.partition(":")
    accounts = _entries("etc/passwd", layers, (2, 3))
    groups = _entries("etc/group", layers, (2,))
    entry = None
    if name:
        entry = next((a for a in accounts if name in (a[0], a[2])), None)
        if entry is None and not name.isdigit():
            raise CannotApply(
                f"cannot run as user {name}: the image's /etc/passwd has no such user", hint=_HINT
            )
    uid = int(entry[2]) if entry else int(name or 0)
    gid = int(entry[3]) if entry else 0
    extra = {_group(item, groups) for item in added}
    if group:
        gid = _group(group, groups)
        return uid, gid, sorted(extra | {gid})
    login = entry[0] if entry else ("root" if uid == 0 else "")
    member = {
        int(g[2]) for g in groups if len(g) > 3 and login and login in g[3].strip().split(",")
    }
    return uid, gid, sorted(extra | member | {gid})


def _group(name: str, groups: list[list[str]]) -> int:
    found = next((g for g in groups if name in (g[0], g[2])), None)
    if found is None and not name.isdigit():
        raise CannotApply(
            f"cannot run as group {name}: the image's /etc/group has no such group",
            hint=_HINT,
        )
    return int(found[2]) if found else int(name)


def _entries(name: str, layers: list[str], numbers: tuple[int, ...]) -> list[list[str]]:
    """Fields of the lines that have ids in these places."""
    found = [line.split(":") for line in _lines(name, layers)]
    return [
        fields
        for fields in found
        if len(fields) > max(numbers) and all(_is_id(fields[place]) for place in numbers)
    ]


def _is_id(text: str) -> bool:
    return len(text) <= 10 and text.isascii() and text.isdigit() and int(text) < (1 << 32) - 1


def _lines(name: str, layers: list[str]) -> list[str]:
    """Lines of a file of the image: the topmost layer that has it decides.

    Links are not followed, and what is no file is not opened: a pipe would be waited for, and to open a device
    may do something.
    """
    for layer in layers:
        path = os.path.join(layer, name)
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode) or os.path.islink(os.path.dirname(path)):
                return []
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            return []
        with open(fd, encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 20).splitlines()
    return []


def capabilities(spec: Spec) -> list[str]:
    """Docker's default set, and what the spec changes of it: a name that is added stays, though ALL is dropped."""
    if spec.privileged:
        return sorted(CAPABILITY_NAMES)
    added, dropped = set(spec.cap_add), set(spec.cap_drop)
    base = set(CAPABILITY_NAMES) if "ALL" in added else set(DEFAULT_CAPABILITIES)
    kept = set() if "ALL" in dropped else base - dropped
    return sorted(kept | (added - {"ALL"}))
