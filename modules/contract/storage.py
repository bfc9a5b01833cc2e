"""Runs in both worlds: the parts of a container's spec that say what it mounts: volumes, secrets, configs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from .fields import FieldError, Short, check_name
from .filesystem import MODE

if TYPE_CHECKING:
    from ..container import Spec


def _parse_owner(value: object) -> object:
    """A uid or gid, as a number or in quotes; names are not looked up, as in Docker."""
    if isinstance(value, str):
        if not re.fullmatch(r"\d{1,10}", value):
            raise ValueError(f"{value!r} is no number; a secret's owner is a uid or gid")
        value = int(value)
    if isinstance(value, int) and not 0 <= value < 1 << 32:
        raise ValueError(f"{value} is no uid or gid")
    return value


OWNER = Short(_parse_owner)


@dataclass(frozen=True)
class Mount:
    """One mount. `type` is volume, bind or tmpfs; an anonymous volume has no source.

    Attributes:
        nocopy: a new volume does not take the image's content.
        subpath: the part of the volume that is mounted, relative to it.
        propagation: a name of mount_namespaces(7); empty: rprivate.
        recursive: what of a bind's own mounts comes along: `enabled` (all; read-only with it where the
            kernel can), `disabled` (none), `writable` (all, never read-only), `readonly` (all, read-only or
            an error); empty: enabled.
        create_host_path: a missing source of a bind is made, as a folder.
        selinux: `z` (shared) or `Z` (private): the label that a host with SELinux would need.
        labels: of an anonymous volume, for people.
        idmap: of a bind, in a container with a user namespace: the folder's owners are the container's.
    """

    target: str
    type: str = "volume"
    source: str = ""
    read_only: bool = False
    tmpfs_size: int = 0
    tmpfs_mode: int = 0o1777
    nocopy: bool = False
    subpath: str = ""
    propagation: str = ""
    recursive: str = ""
    create_host_path: bool = True
    selinux: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    idmap: bool = False


@dataclass(frozen=True)
class FileGrant:
    """A secret or config that the container gets as a file.

    Attributes:
        source: its key; for the host its full name.
        target: path in the container.
        uid, gid, mode: of the file there.
    """

    source: str
    target: str
    uid: Annotated[int, OWNER] = 0
    gid: Annotated[int, OWNER] = 0
    mode: Annotated[str, MODE] = "0444"


def check_storage(spec: Spec) -> None:
    """What the mounts of one container cannot be together.

    Raises:
        FieldError: with the key's path.
    """
    taken: dict[str, str] = {}
    for index, mount in enumerate(spec.volumes):
        if mount.type == "volume" and mount.source:
            check_name(mount.source, "volumes", index)
        _take(taken, mount.target, "volumes", index)
    for index, path in enumerate(spec.tmpfs):
        _take(taken, path.partition(":")[0], "tmpfs", index)
    for key, grants in (("secrets", spec.secrets), ("configs", spec.configs)):
        for index, grant in enumerate(grants):
            check_name(grant.source, key, index)
            _take(taken, grant.target, key, index)


def _take(taken: dict[str, str], target: str, key: str, index: int) -> None:
    if target in taken:
        raise FieldError(f"{target} is mounted twice; {taken[target]} has it already", key, index)
    taken[target] = f"{key}[{index}]"


def check_driver_opts(options: dict[str, str]) -> None:
    """Docker's rule for the driver `local`: `type` and `device`, both or none, and `o` with them.

    Raises:
        FieldError: with the key's path.
    """
    for key in options:
        if key not in ("type", "device", "o"):
            raise FieldError(
                f"{key!r} is no option of the driver local; type, device, o", "driver_opts", key
            )
    if not options:
        return
    for key in ("type", "device"):
        if not options.get(key):
            raise FieldError(
                f"{key} is missing; a folder is {{type: none, o: bind, device: /path}}",
                "driver_opts",
            )
    for key, value in options.items():
        if "\0" in value or (key == "type" and not re.fullmatch(r"[a-z0-9._-]+", value)):
            raise FieldError(f"{value!r} cannot be mounted", "driver_opts", key)
    if is_folder(options) and not options["device"].startswith("/"):
        raise FieldError(
            f"{options['device']!r} is not absolute; paths on a host start with /",
            "driver_opts",
            "device",
        )
    if options["type"] == "none" and not is_folder(options):
        raise FieldError("type none is for a folder: add `o: bind`", "driver_opts", "type")


def is_folder(options: dict[str, str]) -> bool:
    """Whether such a volume is a folder of the host, bound, and no file system of its own."""
    words = (options.get("type", ""), *options.get("o", "").split(","))
    return "bind" in words or "rbind" in words
