"""Runs on the managed host, in the agent: a spec's limits and device rules as `linux.resources`.

Source: OCI runtime-spec 1.2 (config-linux.md), and Docker's defaults for what the spec does not say.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from ..contract.errors import CannotApply
from .host_devices import entry, listing

if TYPE_CHECKING:
    from ..container import Spec

DEFAULT_PIDS_LIMIT = 4096
CPU_PERIOD = 100_000
CPU_SHARES = 1024
LIMITS = frozenset(
    (
        "blkio_config",
        "cpu_period",
        "cpu_quota",
        "cpu_shares",
        "cpus",
        "cpuset",
        "mem_limit",
        "mem_reservation",
        "memswap_limit",
        "pids_limit",
    )
)
"""Fields of the spec that the kernel can change in a running container."""
_RATES = (
    ("device_read_bps", "throttleReadBpsDevice"),
    ("device_write_bps", "throttleWriteBpsDevice"),
    ("device_read_iops", "throttleReadIOPSDevice"),
    ("device_write_iops", "throttleWriteIOPSDevice"),
)


def resources(spec: Spec) -> dict[str, Any]:
    """The limits that are set, the pids limit, and the device rules.

    Raises:
        CannotApply: a device that the spec names is not there.
    """
    parts = {"memory": _memory(spec), "cpu": _cpu(spec), "blockIO": _block_io(spec)}
    return {
        "pids": {"limit": spec.pids_limit or DEFAULT_PIDS_LIMIT},
        **{name: values for name, values in parts.items() if values},
        "devices": _device_rules(spec),
    }


def changed(spec: Spec) -> dict[str, Any]:
    """As `resources`, for a container that runs: a limit that is no longer set is taken off by name."""
    found = resources(spec)
    del found["devices"]
    found["memory"] = {"limit": -1, "swap": -1, **found.get("memory", {})}
    cpu = {"quota": -1, "period": CPU_PERIOD, "shares": CPU_SHARES}
    found["cpu"] = {**cpu, **found.get("cpu", {})}
    return found


def _memory(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if spec.mem_limit:
        # As much swap as memory, as in Docker.
        found = {"limit": spec.mem_limit, "swap": spec.memswap_limit or 2 * spec.mem_limit}
    if spec.mem_reservation:
        found["reservation"] = spec.mem_reservation
    if spec.mem_swappiness is not None:
        found["swappiness"] = spec.mem_swappiness
    if spec.oom_kill_disable:
        found["disableOOMKiller"] = True
    return found


def _cpu(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if spec.cpus:
        found = {"quota": int(spec.cpus * CPU_PERIOD), "period": CPU_PERIOD}
    for key, value in (("quota", spec.cpu_quota), ("period", spec.cpu_period)):
        if value:
            found[key] = value
    if spec.cpu_shares:
        found["shares"] = spec.cpu_shares
    if spec.cpuset:
        found["cpus"] = spec.cpuset
    return found


def _block_io(spec: Spec) -> dict[str, Any]:
    wanted = spec.blkio_config
    if wanted is None:
        return {}
    found: dict[str, Any] = {"weight": wanted.weight} if wanted.weight else {}
    if wanted.weight_device:
        found["weightDevice"] = [
            {**_disk(item.path), "weight": item.weight} for item in wanted.weight_device
        ]
    for key, name in _RATES:
        entries = getattr(wanted, key)
        if entries:
            found[name] = [{**_disk(item.path), "rate": item.rate} for item in entries]
    return found


def _disk(path: str) -> dict[str, int]:
    """The number of a block device, which is what the kernel limits."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise CannotApply(
            f"cannot limit {path}: {error.strerror}",
            hint="see lsblk for the host's disks",
            ref="no-device",
        ) from error
    if not stat.S_ISBLK(status.st_mode):
        raise CannotApply(
            f"cannot limit {path}: it is no disk",
            hint="see lsblk for the host's disks",
            ref="no-device",
        )
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}


def _device_rules(spec: Spec) -> list[dict[str, Any]]:
    """Nothing, then what the spec lets in; the runtime adds the usual devices to the end."""
    if spec.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for wanted in spec.devices:
        for node in nodes(wanted.source, wanted.target):
            kind, access = node["type"], wanted.permissions
            numbers = {"major": node["major"], "minor": node["minor"]}
            rules.append({"allow": True, "type": kind, **numbers, "access": access})
    for text in spec.device_cgroup_rules:
        kind, pair, access = text.split(" ")
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        for key, number in zip(("major", "minor"), pair.split(":")):
            if number != "*":
                rule[key] = int(number)
        rules.append(rule)
    return rules


def nodes(source: str, target: str) -> list[dict[str, Any]]:
    """`linux.devices` entries of one device of the host, or of all in a folder.

    Raises:
        CannotApply: it is not there, or no device.
    """
    try:
        status = os.stat(source)
    except OSError as error:
        raise CannotApply(
            f"cannot give the device {source}: {error.strerror}",
            hint="see `ls -l /dev` on the host",
            ref="no-device",
        ) from error
    if stat.S_ISDIR(status.st_mode):
        found = listing(source)
        return [{**node, "path": target + node["path"][len(source) :]} for node in found]
    node = entry(target, status)
    if node is None:
        raise CannotApply(
            f"cannot give the device {source}: it is no device",
            hint="a file or folder of the host belongs to `volumes:`",
            ref="no-device",
        )
    return [node]
