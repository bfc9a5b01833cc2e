"""Runs on the managed host, in the agent: how a container with a user namespace comes to own its files.

On disk everything belongs to the host's numbers, and mounts show it as the container's, where the kernel
and the file system can do that. Where they cannot, layers are copied for the project's range, and a volume
is given to the range of the containers that use it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..agent.files import read_json
from ..contract.errors import CannotApply
from ..contract.users import USERS
from . import id_ranges

if TYPE_CHECKING:
    from ..agent.host import Host, Paths
    from ..container import Spec
    from .sources import Sources

ETC = ("resolv.conf", "hosts", "hostname")


@dataclass
class Owners:
    """What `prepare` found.

    Attributes:
        first: the host's number behind the container's 0.
        shifted: layers are copies made for it, which lie in `layers`; its own files are to be given to it.
        mapped: targets of mounts whose owners are mapped.
        options: target -> further options of volumes with a file system of their own.
    """

    first: int
    shifted: bool = False
    layers: str = ""
    mapped: set[str] = field(default_factory=set)
    options: dict[str, str] = field(default_factory=dict)

    def linux(self) -> dict[str, Any]:
        """For `linux` of config.json."""
        mapping = [{"containerID": 0, "hostID": self.first, "size": USERS}]
        return {"uidMappings": mapping, "gidMappings": mapping}

    def give(self, folder: str) -> None:
        """Give the container what was made for it in its folder."""
        if self.shifted:
            for name in ("upper", *ETC):
                os.chown(os.path.join(folder, name), self.first, self.first)


def prepare(spec: Spec, host: Host, mounted: Sources, layers: list[str]) -> Owners | None:
    """Have range, copies and volumes ready; None for a container of the host's own users.

    Args:
        layers: short names of the image's layers.
    Raises:
        CannotApply: this host cannot map what has to be mapped, or others use a volume as other users.
    """
    if not spec.userns_mode:
        for mount in mounted.mounts:
            if _ours(mounted.paths.get(mount.target, ""), host.paths):
                _own(mounted.paths[mount.target], 0, spec, host.paths)
        return None
    from ..store import shifted
    from ..store.store import Store
    from . import idmap_probe

    store = Store(host.paths.data)
    found = Owners(id_ranges.hold(host.paths, host.project, spec.name))
    if idmap_probe.layers(store.links_dir, host.paths.container(spec.name)):
        found.mapped.update(f"/etc/{name}" for name in ETC)
    else:
        found.shifted = True
        found.layers = shifted.ensure(store, found.first, layers)
    for mount in mounted.mounts:
        if mount.type == "bind":
            if mount.idmap:
                _need_map(mount.source, spec)
                found.mapped.add(mount.target)
            elif mount.source in mounted.made:
                # Who owns the folder above may have put a link there meanwhile.
                os.chown(mount.source, found.first, found.first, follow_symlinks=False)
        elif mount.type == "volume":
            _volume(found, mount.target, spec, host, mounted)
    return found


def _volume(found: Owners, target: str, spec: Spec, host: Host, mounted: Sources) -> None:
    from . import idmap_probe

    path = mounted.paths[target]
    kind = mounted.storage.get(target, {}).get("type", "")
    if kind == "tmpfs":
        found.options[target] = _given(mounted.storage[target]["options"], found.first)
    elif kind:
        _need_map(path, spec)
        found.mapped.add(target)
    elif id_ranges.owners(path) == [found.first]:
        return  # given to it before the kernel could map; others of the project have it so
    elif idmap_probe.folder(path):
        if _ours(path, host.paths):
            _own(path, 0, spec, host.paths)
        found.mapped.add(target)
    elif _ours(path, host.paths):
        _own(path, found.first, spec, host.paths)


def _given(options: str, first: int) -> str:
    """Whose a new tmpfs is: numbers in its options are the container's, as all that is written for it."""
    written = dict(item.partition("=")[::2] for item in options.split(","))
    numbers = ((name, written.get(name, "0")) for name in ("uid", "gid"))
    return ",".join(f"{name}={first + int(one)}" for name, one in numbers if one.isdigit())


def _ours(path: str, paths: Paths) -> bool:
    """Whether it is a volume of hostctl's own, and no folder of somebody else's."""
    return path.startswith((f"{paths.data}/volumes/", f"{paths.data}/containers/"))


def _need_map(path: str, spec: Spec) -> None:
    from . import idmap_probe

    if not idmap_probe.folder(path):
        raise CannotApply(
            f"cannot show {path} to the users of {spec.name}: its file system, or this kernel, cannot map owners",
            hint="it takes Linux 5.12 and a file system such as ext4, xfs or btrfs; or leave out"
            " `userns_mode`, or make the files readable for all and leave out `idmap`",
            ref="no-idmapped-mounts",
        )


def _own(path: str, first: int, spec: Spec, paths: Paths) -> None:
    """Let the files of a volume belong to a range; [0] is the host's own numbers."""
    before = id_ranges.owners(path)
    if before == [first]:
        return
    other = _user(path, first, spec, paths)
    if other:
        raise CannotApply(
            f"cannot share a volume between {spec.name} and {other}: they have different users, and this"
            " host cannot map owners",
            hint="give both the same `userns_mode`, or each a volume of its own",
            ref="volume-owners",
        )
    from . import id_shift

    def renumber(number: int) -> int:
        for start in before:
            if start <= number < start + USERS:
                return first + number - start
        return number

    id_ranges.write_owners(path, [*dict.fromkeys((*before, first))])
    id_shift.tree(path, renumber)
    id_ranges.write_owners(path, [first])


def _user(path: str, first: int, spec: Spec, paths: Paths) -> str:
    """Another container that has the volume, and other users; empty: none."""
    folder = os.path.join(paths.data, "containers")
    for name in os.listdir(folder):
        record = read_json(os.path.join(folder, name, "spec.json"))
        if name == spec.name or record is None:
            continue
        if any(item["path"] == path for item in record.get("mounts", ())):
            theirs = id_ranges.held(paths, name) if record["spec"].get("userns_mode") else 0
            if theirs != first:
                return name
    return ""
