"""Runs on the managed host, in the agent: which ids of the host stand behind a project's user namespaces.

A project has one range of 65536 users and as many groups, the same numbers for both, from its first
container with `userns_mode: private` to its last. `DATA/ids/PROJECT.json` says which. What holds a range
has its first number written beside it (a container's `ids`, a volume's `_data.owner`), so that nobody has
to give one back: a range that nothing holds is free. Source: subuid(5), systemd's UIDS-GIDS.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..agent.files import read_json, write_atomic, write_json
from ..agent.host import Paths
from ..contract.errors import CannotApply
from ..contract.users import USERS

_FIRST, _LAST = 0x70000000, 0x7FFD0000
"""Nobody else's by convention: above what systemd (up to 0x6fffffff) and useradd (up to 600100000) give to
containers, below systemd's foreign files (0x7ffe0000) and the numbers that some programs take for negative."""
HELD = "ids"
OWNER = ".owner"
_ACCOUNTS = ("/etc/passwd", "/etc/group")
_GRANTS = ("/etc/subuid", "/etc/subgid")


def hold(paths: Paths, project: str, container: str) -> int:
    """The first id of the project's range, which the container's folder holds from now on.

    Raises:
        CannotApply: there is none left.
    """
    with _locked(paths):
        record = os.path.join(_folder(paths), f"{project}.json")
        found = read_json(record)
        if found is None:
            found = {"first": _free(paths, project), "size": USERS}
            write_json(record, found)
        first = int(found["first"])
        write_atomic(os.path.join(paths.container(container), HELD), str(first).encode(), 0o600)
    return first


def held(paths: Paths, container: str) -> int:
    """The first id of the range that a container has; 0 for the host's own."""
    found = _numbers(os.path.join(paths.container(container), HELD))
    return found[0] if found else 0


def tidy(paths: Paths) -> None:
    """Remove the layers that were copied for no container any more, and take back the ranges that nothing holds."""
    if not os.path.isdir(_folder(paths)):
        return
    from ..store import shifted
    from ..store.store import Store

    with _locked(paths):
        containers, volumes = _holders(paths)
        for name, first in _given(paths):
            if first in containers:
                continue
            shifted.remove(Store(paths.data), first)
            if first not in volumes:
                os.unlink(os.path.join(_folder(paths), name))


def owners(path: str) -> list[int]:
    """Which ranges the files of a volume belong to: [0] is the host's own; two while it changes."""
    try:
        with open(path + OWNER, encoding="ascii") as stream:
            return [int(word) for word in stream.read().split()] or [0]
    except FileNotFoundError:
        return [0]


def write_owners(path: str, firsts: list[int]) -> None:
    """Say so of a volume's folder."""
    if firsts == [0]:
        if os.path.lexists(path + OWNER):
            os.unlink(path + OWNER)
        return
    write_atomic(path + OWNER, " ".join(map(str, firsts)).encode(), 0o600)


def _folder(paths: Paths) -> str:
    return os.path.join(paths.data, "ids")


@contextmanager
def _locked(paths: Paths) -> Iterator[None]:
    os.makedirs(_folder(paths), 0o700, exist_ok=True)
    fd = os.open(_folder(paths), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _given(paths: Paths) -> list[tuple[str, int]]:
    """(file name, first id) of each range that a project has."""
    found = []
    for name in sorted(os.listdir(_folder(paths))):
        record = read_json(os.path.join(_folder(paths), name)) if name.endswith(".json") else None
        if record is not None and not name.startswith("."):
            found.append((name, int(record["first"])))
    return found


def _holders(paths: Paths) -> tuple[set[int], set[int]]:
    """First ids that containers have, and those that volumes were given to."""
    users: set[int] = set()
    owned: set[int] = set()
    containers, volumes = (
        os.path.join(paths.data, "containers"),
        os.path.join(paths.data, "volumes"),
    )
    for name in _names(containers):
        users.update(_numbers(os.path.join(containers, name, HELD)))
        kept = os.path.join(containers, name, "anonymous")
        for one in _names(kept):
            if one.endswith(OWNER):
                owned.update(_numbers(os.path.join(kept, one)))
    for name in _names(volumes):
        owned.update(_numbers(os.path.join(volumes, name, "_data" + OWNER)))
    return users, owned


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _numbers(path: str) -> list[int]:
    try:
        with open(path, encoding="ascii") as stream:
            return [int(word) for word in stream.read().split()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def warnings(paths: Paths, project: str) -> list[str]:
    """What of the host has come to lie in the project's range since it was given."""
    record = read_json(os.path.join(_folder(paths), f"{project}.json"))
    if record is None:
        return []
    first = int(record["first"])
    return [
        f"{path} gives ids of the project {project}'s containers to another: {start} is one of {first} to"
        f" {first + USERS - 1}; give it others, or destroy the project and apply it again"
        for path in (*_ACCOUNTS, *_GRANTS)
        for start, size in _listed(path)
        if first < start + size and start < first + USERS
    ]


def _free(paths: Paths, project: str) -> int:
    """The range at which the project's name points, or the next that is free.

    By name, so that a project finds its files in bound folders again, here and on other hosts.
    """
    taken = [(first, USERS) for _, first in _given(paths)] + taken_on_host()
    count = (_LAST - _FIRST) // USERS
    start = int.from_bytes(hashlib.sha256(project.encode()).digest()[:8], "big")
    for number in range(count):
        first = _FIRST + (start + number) % count * USERS
        if all(first >= other + size or other >= first + USERS for other, size in taken):
            return first
    raise CannotApply(
        f"cannot give {project} a range of ids: all {count} are taken",
        hint="free some of /etc/subuid, or leave out `userns_mode` of a project",
        ref="no-ids",
    )


def taken_on_host() -> list[tuple[int, int]]:
    """(first, how many) of the ids that accounts, /etc/subuid and running user namespaces have."""
    found = [one for path in (*_ACCOUNTS, *_GRANTS) for one in _listed(path)]
    own = os.stat("/proc/self/ns/user").st_ino
    seen = {own}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            space = os.stat(f"/proc/{name}/ns/user").st_ino
            if space in seen:
                continue
            seen.add(space)
            for kind in ("uid_map", "gid_map"):
                with open(f"/proc/{name}/{kind}", encoding="ascii") as stream:
                    found += [(int(line.split()[1]), int(line.split()[2])) for line in stream]
        except OSError:
            continue  # it has just ended
    return found


def _listed(path: str) -> list[tuple[int, int]]:
    """(first, how many) of a file: an account has one id, a grant says how many."""
    rows = [row for row in _fields(path) if len(row) > 2 and row[2].isdigit()]
    if path in _ACCOUNTS:
        return [(int(row[2]), 1) for row in rows]
    return [(int(row[1]), int(row[2])) for row in rows if row[1].isdigit()]


def _fields(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return [line.strip().split(":") for line in stream]
    except FileNotFoundError:
        return []
