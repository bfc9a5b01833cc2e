"""Runs on the managed host, in the agent: what a container has mounted: Docker's usual ones, then its own."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..contract.fields import parse_size
from ..contract.storage import Mount

if TYPE_CHECKING:
    from ..container import Spec

SHM_SIZE = 64 << 20
_QUIET = ["nosuid", "noexec", "nodev"]


def mounts(
    spec: Spec, folder: str, volumes: dict[str, str], mapped: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The `mounts` of config.json, parents first.

    Args:
        folder: the container's data folder, with the files of its /etc.
        volumes: mount target -> directory on the host, for volumes and binds.
        mapped: targets whose owners are shown through the container's user namespace.
    """
    access = "rw" if spec.privileged else "ro"
    found = [
        _mount("/proc", "proc", "proc", _QUIET),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/sys", "sysfs", "sysfs", [*_QUIET, access]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*_QUIET, "relatime", access]),
        *_ipc(spec),
    ]
    for name in ("resolv.conf", "hosts", "hostname"):
        source = os.path.join(folder, name)
        options = ["rbind", "rprivate", "ro" if spec.read_only else "rw"]
        found.append(_mount(f"/etc/{name}", "bind", source, options))
    own = [_volume(item, volumes) for item in spec.volumes] + [_tmpfs(item) for item in spec.tmpfs]
    found += sorted(own, key=lambda entry: str(entry["destination"]).count("/"))
    for entry in found:
        if entry["destination"] in mapped:
            entry["options"] = [*entry["options"], "idmap"]
    return found


def _ipc(spec: Spec) -> list[dict[str, Any]]:
    """Message queues and shared memory belong together: both the container's own, or both the host's.

    Another container's shared memory is found when this one starts (`runtime/peers.py`).
    """
    queues = _mount("/dev/mqueue", "mqueue", "mqueue", _QUIET)
    if spec.ipc == "host":
        options = ["rbind", "rprivate", *_QUIET]
        return [queues, _mount("/dev/shm", "bind", "/dev/shm", options)]
    if spec.ipc == "none":
        return [queues]
    size = f"size={(spec.shm_size or SHM_SIZE) >> 10}k"
    return [queues, _mount("/dev/shm", "tmpfs", "shm", [*_QUIET, "mode=1777", size])]


def _volume(mount: Mount, volumes: dict[str, str]) -> dict[str, Any]:
    if mount.type == "tmpfs":
        options = ["nosuid", "nodev", f"mode={mount.tmpfs_mode:o}"]
        options += [f"size={mount.tmpfs_size}"] if mount.tmpfs_size else []
        return _mount(mount.target, "tmpfs", "tmpfs", options)
    options = [
        "bind" if mount.recursive == "disabled" else "rbind",
        mount.propagation or "rprivate",
        "ro" if mount.read_only else "rw",
    ]
    # As in Docker, what is mounted below a read-only bind is read-only with it, where the kernel can.
    inside = mount.recursive == "readonly" or (not mount.recursive and _has_mount_setattr())
    if mount.type == "bind" and mount.read_only and inside:
        options.append("rro")
    return _mount(mount.target, "bind", volumes[mount.target], options)


def _has_mount_setattr() -> bool:
    """Linux 5.12."""
    major, minor = (int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    return (major, minor) >= (5, 12)


def _tmpfs(text: str) -> dict[str, Any]:
    """Compose's `/run` or `/run:size=64m,mode=755`, with the flags that Docker sets unless they are undone."""
    target, _, options = text.partition(":")
    flags, values = list(_QUIET), {"mode": "1777"}
    for option in options.split(",") if options else ():
        name, sign, setting = option.partition("=")
        if sign:
            values[name] = setting if setting.endswith("%") else _plain(name, setting)
        else:
            flags.append(option)
    return _mount(target, "tmpfs", "tmpfs", [*flags, *(f"{k}={v}" for k, v in values.items())])


def _plain(name: str, setting: str) -> str:
    return str(parse_size(setting)) if name in ("size", "nr_inodes") else setting


def _mount(target: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": options}
