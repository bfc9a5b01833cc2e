"""Runs on the managed host: which users and groups of the host stand behind those of a container.

A user namespace is made by a child that does nothing else and ends at once: the namespace lives on in
the descriptor. So it is there before the container, and mounts can be prepared with it.
Source: user_namespaces(7), mount_setattr(2), OCI runtime-spec 1.2 config-linux.md.
"""

from __future__ import annotations

import errno
import os
import stat

from . import syscalls as sys
from .config import Config, RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

Range = tuple[int, int, int]
"""(first inside, first outside, how many)."""
_LAST = (1 << 32) - 1  # -1 is nobody's number
_MOST = 340  # lines that the kernel takes


class Mapping:
    """Ranges of users and of groups."""

    def __init__(self, uids: list[Range], gids: list[Range]) -> None:
        self.uids = uids
        self.gids = gids

    def key(self) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
        """Equal for equal mappings."""
        return tuple(self.uids), tuple(self.gids)


def prepare(config: Config, *, new: bool, joined: bool) -> Mapping | None:
    """Parse `linux.uidMappings` and `linux.gidMappings`; None where they are not known.

    Args:
        new, joined: whether the container gets a user namespace, or joins one; of that they may be said.
    """
    linux = config.get("linux") or {}
    uids = _ranges(linux.get("uidMappings"), "linux.uidMappings")
    gids = _ranges(linux.get("gidMappings"), "linux.gidMappings")
    if (uids or gids) and not (new or joined):
        _refuse(
            "linux.uidMappings and linux.gidMappings need a user namespace",
            'add {"type": "user"} to linux.namespaces, or remove the mappings',
        )
    if not new:
        return Mapping(uids, gids) if uids and gids else None
    for name, found in (("uidMappings", uids), ("gidMappings", gids)):
        if not found:
            _refuse(
                f"its user namespace has no linux.{name}",
                f'add linux.{name}: [{{"containerID": 0, "hostID": 100000, "size": 65536}}]',
            )
    return Mapping(uids, gids)


def of_mount(entry: dict[str, Any], destination: str) -> Mapping | None:
    """The mappings of one entry of `mounts`; None where it has none."""
    uids = _ranges(entry.get("uidMappings"), f"uidMappings of the mount at {destination}")
    gids = _ranges(entry.get("gidMappings"), f"gidMappings of the mount at {destination}")
    if bool(uids) != bool(gids):
        _refuse(
            f"the mount at {destination} maps only users or only groups",
            "give it both uidMappings and gidMappings",
        )
    return Mapping(uids, gids) if uids else None


def _ranges(entries: Any, where: str) -> list[Range]:
    found: list[Range] = []
    if not isinstance(entries or [], list):
        _refuse(f"{where} is not a list", "see user_namespaces(7)")
    for entry in entries or ():
        try:
            one = (entry["containerID"], entry["hostID"], entry["size"])
        except (KeyError, TypeError):
            _refuse(f"an entry of {where} lacks containerID, hostID or size", "give it all three")
        if not all(type(number) is int for number in one):
            _refuse(f"an entry of {where} holds something else than numbers", "correct it")
        inside, outside, size = one
        if size < 1 or min(inside, outside) < 0 or max(inside, outside) + size > _LAST:
            _refuse(
                f"{where} has an impossible range: {inside} {outside} {size}",
                "size is 1 or more, and all numbers are below 4294967295",
            )
        for other in found:
            for mine, theirs in ((inside, other[0]), (outside, other[1])):
                if mine < theirs + other[2] and theirs < mine + size:
                    _refuse(f"two ranges of {where} overlap at {max(mine, theirs)}", "correct one")
        found.append((inside, outside, size))
    if len(found) > _MOST:
        _refuse(f"{where} has {len(found)} entries", f"the kernel takes {_MOST}: join ranges")
    return found


def _refuse(what: str, hint: str) -> NoReturn:
    raise RuntimeFailure(f"cannot create the container: {what}", hint=hint, ref="bad-mapping")


def outside(ranges: list[Range], number: int, unknown: int = -1) -> int:
    """Who that user or group is on the host. -1, which changes nothing in chown(2), for nobody."""
    for inside, first, size in ranges:
        if inside <= number < inside + size:
            return first + number - inside
    return unknown


def inside(ranges: list[Range], number: int) -> int:
    """Who that user or group of the host is there; as it is for one that the mapping does not know."""
    return outside([(there, here, size) for here, there, size in ranges], number, number)


def make(mapping: Mapping) -> int:
    """Parent: a descriptor of a new user namespace with that mapping.

    Raises:
        RuntimeFailure: this host does not allow it.
    """
    gate, hold = os.pipe()
    try:
        pid = sys.clone(sys.CLONE_NEWUSER)
    except OSError as error:
        os.close(gate)
        os.close(hold)
        raise _impossible(error) from error
    if pid == 0:
        os.close(hold)
        os.read(gate, 1)
        os._exit(0)
    os.close(gate)
    try:
        _map(pid, mapping)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _impossible(error) from error
    finally:
        os.close(hold)
        os.waitpid(pid, 0)


def _map(pid: int, mapping: Mapping) -> None:
    if os.geteuid() != 0:
        # An ordinary user may map its own group only once nobody can drop groups any more.
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", _lines(mapping.uids))
    _write(f"/proc/{pid}/gid_map", _lines(mapping.gids))


def _lines(ranges: list[Range]) -> str:
    return "".join(f"{inside} {outside} {size}\n" for inside, outside, size in ranges)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _impossible(error: OSError) -> RuntimeFailure:
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EUSERS):
        hint = "this host allows no more of them: see sysctl user.max_user_namespaces"
    elif error.errno == errno.EPERM:
        hint = "without root only your own user and group can be mapped, or what /etc/subuid grants"
    elif error.errno == errno.EINVAL:
        hint = "this host's kernel has no user namespaces, or these ranges are not its own to give"
    return RuntimeFailure(
        f"cannot make a user namespace: {error.strerror}", hint=hint, ref="no-user-namespace"
    )


def apply(tree: int, userns: int, what: str, *, recursive: bool = False) -> None:
    """Show the owners of a detached mount through the mapping of a user namespace.

    Raises:
        RuntimeFailure: the kernel (before 5.12), or the file system of `what`, cannot do that.
    """
    try:
        sys.mount_setattr(
            "", sys.MOUNT_ATTR_IDMAP, recursive=recursive, userns_fd=userns, dir_fd=tree
        )
    except OSError as error:
        hint = "idmapped mounts need Linux 5.12, of an overlay's layers 5.19, and root"
        if error.errno == errno.EINVAL:
            hint = "the kernel, or the file system that holds it, has no idmapped mounts"
        raise RuntimeFailure(
            f"cannot map the owners of {what}: {error.strerror}",
            hint=f"{hint}; use a copy whose owners are shifted already",
            ref="no-idmapped-mounts",
        ) from error


def of_process(pid: int) -> Mapping:
    """The mapping of the user namespace that a process is in, as the host counts."""
    found = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{name}", "rb") as stream:
            lines = [line.split() for line in stream]
        found.append([(int(first), int(start), int(size)) for first, start, size in lines])
    return Mapping(*found)


def give(pipes: Sequence[int], mapping: Mapping, uid: int, gid: int) -> None:
    """Let a user and group of the container own the pipes that the host's root made for it.

    Programs reopen /dev/stdout by name.
    """
    for fd in pipes:
        found = os.fstat(fd)
        if stat.S_ISFIFO(found.st_mode) and found.st_uid == 0:
            os.fchown(fd, outside(mapping.uids, uid), outside(mapping.gids, gid))


def root_of(userns: int) -> tuple[int, int]:
    """Who user and group 0 of a user namespace are here. Raises RuntimeFailure: nobody."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            sys.setns(userns, sys.CLONE_NEWUSER)
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/self/{name}", "rb") as stream:
                    first = [line.split()[1] for line in stream if line.split()[0] == b"0"]
                os.write(writing, b" ".join(first) + b"\n")
        finally:
            os._exit(0)
    os.close(writing)
    try:
        os.waitpid(pid, 0)
        lines = os.read(reading, 256).split()
    finally:
        os.close(reading)
    if len(lines) != 2:
        _refuse("its user namespace has no user 0, or no group 0", "map containerID 0 too")
    return int(lines[0]), int(lines[1])


class AsRoot:
    """A block in which files are made as user and group 0 of a user namespace, with the host's rights."""

    def __init__(self, userns: int) -> None:
        self._uid, self._gid = root_of(userns)

    def __enter__(self) -> None:
        _, permitted, inheritable = sys.capget()
        os.setegid(self._gid)
        os.seteuid(self._uid)
        # Another effective user takes effect from the rights, which are still permitted.
        sys.capset(permitted, permitted, inheritable)

    def __exit__(self, *_: object) -> None:
        os.seteuid(0)
        os.setegid(0)


def become_root() -> None:
    """Child, just inside a user namespace: its user 0, where it has one, so that it owns its files."""
    for change in (os.setresgid, os.setresuid):
        try:
            change(0, 0, 0)
        except OSError as error:
            if error.errno != errno.EINVAL:  # 0 is nobody there
                raise
