"""Runs on the managed host, in the agent: what a container mounts in the end, and where each of it comes from.

The spec's own mounts come first, then those of `volumes_from`, then the image's anonymous volumes where
nothing else is mounted: Docker's order, in which the first at a path has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..agent.files import read_json
from ..agent.host import Host, Paths
from ..container import Spec
from ..contract.change import Action
from ..contract.errors import CannotApply
from ..contract.spec import decode, encode
from ..contract.storage import Mount, is_folder

KEPT = "anonymous"
_GIVING = ("volumes", "volumes_from")
SELINUX = "/sys/fs/selinux/enforce"


@dataclass
class Sources:
    """What `gather` found.

    Attributes:
        mounts: all of them, with the paths that only the container knows.
        paths: target -> folder or file on the host.
        storage: target -> what a volume is that is no plain folder (see `runtime/storage.py`).
        markers: target -> the file that says that a new volume is being filled from the image.
        made: sources of binds that were not there.
    """

    mounts: list[Mount] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    storage: dict[str, dict[str, Any]] = field(default_factory=dict)
    markers: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    def annotations(self, options: Mapping[str, str]) -> dict[str, str]:
        """For config.json: volumes that are filled, and those that are no plain folder.

        Args:
            options: target -> further options of its file system.
        """
        fill = {
            mount.target: [self.paths[mount.target], self.markers[mount.target]]
            for mount in self.mounts
            if mount.target in self.markers and not (mount.nocopy or mount.subpath)
        }
        found = {"hostctl.fill": json.dumps(fill, sort_keys=True)}
        if self.storage:
            storage = {
                target: {**entry, "options": ",".join(filter(None, (entry["options"], more)))}
                if (more := options.get(target))
                else entry
                for target, entry in self.storage.items()
            }
            found["hostctl.storage"] = json.dumps(storage, sort_keys=True)
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """What other containers get by `volumes_from`: no tmpfs, as in Docker."""
        return [
            {
                "mount": encode(mount),
                "path": self.paths[mount.target],
                "storage": self.storage.get(mount.target),
                "marker": self.markers.get(mount.target, ""),
            }
            for mount in self.mounts
            if mount.type != "tmpfs"
        ]


def gather(spec: Spec, host: Host, image: dict[str, Any]) -> Sources:
    """All mounts of the container; folders that are to be made are made.

    Raises:
        CannotApply: a source is missing, or is nothing that this host can mount.
    """
    found = Sources()
    for mount in spec.volumes:
        _add(found, mount, spec, host)
    taken = {mount.target for mount in found.mounts}
    taken.update(path.partition(":")[0] for path in spec.tmpfs)
    for item in inherited(spec, host.paths):
        mount = decode(Mount, item["mount"])
        if mount.target in taken:
            continue
        taken.add(mount.target)
        found.mounts.append(mount)
        found.paths[mount.target] = item["path"]
        if item["storage"]:
            found.storage[mount.target] = item["storage"]
        if item["marker"]:
            found.markers[mount.target] = item["marker"]
    for path in (image.get("config") or {}).get("Volumes") or {}:
        target = posixpath.normpath("/" + str(path).lstrip("/"))
        if target not in taken and target != "/":
            taken.add(target)
            _add(found, Mount(target), spec, host)
    return found


def inherited(spec: Spec, paths: Paths) -> list[dict[str, Any]]:
    """What `volumes_from` brings, in its order, read-only where it says so.

    Raises:
        CannotApply: there is no such container.
    """
    out: list[dict[str, Any]] = []
    for item in spec.volumes_from:
        name, read_only = giver(item)
        record = read_json(os.path.join(paths.container(name), "spec.json"))
        if record is None:
            raise CannotApply(
                f"cannot take the volumes of {name} for {spec.name}: there is no such container",
                hint="declare it in the same playbook, or correct `volumes_from`",
                ref="unknown-container",
            )
        for entry in record.get("mounts", ()):
            mount = decode(Mount, entry["mount"])
            if read_only:
                mount = replace(mount, read_only=True)
            out.append({**entry, "mount": encode(mount)})
    return out


def heritage(spec: Spec, host: Host) -> list[dict[str, Any]] | None:
    """What `volumes_from` brings once this run is done; None where that is known only then."""
    for item in spec.volumes_from:
        resource = f"container.{giver(item)[0]}"
        seen = host.observations.get(resource)
        for change in host.changes.get(resource, ()):
            ahead = seen is None or seen.spec.get(change.field) != change.after
            if change.action is Action.CREATE and ahead:
                return None
            if change.action is Action.REPLACE and change.field in _GIVING and ahead:
                return None
    try:
        return inherited(spec, host.paths)
    except CannotApply:
        return None


def giver(item: str) -> tuple[str, bool]:
    """The container that `NAME`, `NAME:ro` or `container:NAME` means, and whether read-only."""
    name = item[len("container:") :] if item.startswith("container:") else item
    name, _, access = name.partition(":")
    return name, access == "ro"


def _add(found: Sources, mount: Mount, spec: Spec, host: Host) -> None:
    found.mounts.append(mount)
    if mount.type == "tmpfs":
        return
    if mount.selinux and os.path.exists(SELINUX):
        raise CannotApply(
            f"cannot label {mount.source} for {spec.name}: not supported yet on a host with SELinux",
            hint=f"label it yourself (chcon -Rt container_file_t), and leave {mount.selinux} out",
            ref="not-supported",
        )
    if mount.type == "bind":
        if _made(mount, spec):
            found.made.add(mount.source)
        found.paths[mount.target] = mount.source
    elif mount.source:
        _volume(found, mount, spec, host.paths)
    else:
        path = _anonymous(mount.target, spec.name, host.paths)
        found.paths[mount.target] = path
        found.markers[mount.target] = f"{path}.filling"


def _made(mount: Mount, spec: Spec) -> bool:
    """Whether the source of the bind had to be made."""
    if os.path.lexists(mount.source):
        return False
    if not mount.create_host_path:
        raise CannotApply(
            f"cannot bind {mount.source} into {spec.name}: there is no such path on the host",
            hint="make it with a directory or copy task, or let create_host_path be true",
            ref="mount-source-missing",
        )
    _make_open(mount.source)
    return True


def _make_open(path: str) -> None:
    """Make a folder and its missing parents as Docker does, all 0755 whatever the umask of this process."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_open(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    os.chmod(path, 0o755)


def _volume(found: Sources, mount: Mount, spec: Spec, paths: Paths) -> None:
    folder = paths.volume(mount.source)
    path = os.path.join(folder, "_data")
    if not os.path.isdir(path):
        raise CannotApply(
            f"cannot mount volume {mount.source} into {spec.name}: there is no such volume",
            hint="declare it under `volumes:`",
        )
    options = (read_json(os.path.join(folder, "volume.json")) or {}).get("driver_opts") or {}
    found.paths[mount.target] = path
    found.markers[mount.target] = f"{path}.filling"
    if options:
        device = options.get("device", "")
        if is_folder(options):
            found.paths[mount.target] = _bound(device, mount.source)
        else:
            found.storage[mount.target] = {
                "name": mount.source,
                "type": options["type"],
                "device": device,
                "options": options.get("o", ""),
            }
    if mount.subpath:
        found.storage.setdefault(mount.target, {})["subpath"] = mount.subpath


def _bound(device: str, name: str) -> str:
    if not os.path.exists(device):
        raise CannotApply(
            f"cannot mount volume {name}: its device {device} does not exist on the host",
            hint="make the folder with a directory task before",
            ref="mount-source-missing",
        )
    return device


def _anonymous(target: str, name: str, paths: Paths) -> str:
    key = hashlib.sha256(target.encode()).hexdigest()[:16]
    path = os.path.join(paths.container(name), KEPT, key)
    _make_open(path)
    return path
