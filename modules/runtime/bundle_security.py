"""Runs on the managed host, in the agent: what a container shares with its host, and what it must not see."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..contract.users import USERS

if TYPE_CHECKING:
    from ..container import Spec

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_NETWORK = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
"""What programs without rights may do in a network of their own, as in Docker: use any port, and ping."""
_LABEL = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}


def namespaces(spec: Spec) -> list[dict[str, str]]:
    """`linux.namespaces`: all of its own but those that are the host's.

    Another container's are found when this one starts (`runtime/peers.py`).
    """
    host = {
        "user": not spec.userns_mode,
        "pid": spec.pid == "host",
        "ipc": spec.ipc == "host",
        "uts": spec.uts == "host",
        "cgroup": spec.cgroup == "host",
        "network": spec.network_mode == "host",
    }
    kinds = ("user", "pid", "mount", "ipc", "uts", "cgroup", "network")
    return [{"type": kind} for kind in kinds if not host.get(kind)]


def peers(spec: Spec) -> dict[str, str]:
    """Kind of namespace -> the container whose it is."""
    found = {}
    for kind in ("pid", "ipc"):
        mode, _, name = getattr(spec, kind).partition(":")
        if mode == "container":
            found[kind] = name
    return found


def paths(spec: Spec) -> dict[str, list[str]]:
    """Masked and read-only paths; none for a container that may see all of the system."""
    if spec.privileged or setting(spec, "systempaths") == "unconfined":
        return {}
    return {"maskedPaths": list(MASKED_PATHS), "readonlyPaths": list(READONLY_PATHS)}


def sysctls(spec: Spec, *, mapped: bool) -> dict[str, str]:
    """Parameters of the container's namespaces: Docker's, and over them the spec's own.

    Args:
        mapped: it has a user namespace, in which there are fewer groups.
    """
    found = {
        name: value
        for name, value in _NETWORK.items()
        if spec.network_mode != "host" and os.path.exists(f"/proc/sys/{name.replace('.', '/')}")
    }
    if mapped and "net.ipv4.ping_group_range" in found:
        found["net.ipv4.ping_group_range"] = f"0 {USERS - 1}"
    return dict(sorted({**found, **spec.sysctls}.items()))


def setting(spec: Spec, name: str) -> str:
    """The last value of a switch of `security_opt`; empty where it is not there."""
    found = ""
    for item in spec.security_opt:
        key, _, value = item.partition("=")
        found = value if key == name else found
    return found


def confined(spec: Spec) -> bool:
    """Whether it has hostctl's own AppArmor profile, where the host can do that when it starts."""
    return not spec.privileged and not setting(spec, "apparmor")


def labels(spec: Spec) -> dict[str, Any]:
    """The profiles of AppArmor and SELinux that `process` names; none unless asked for."""
    found: dict[str, Any] = {}
    apparmor = setting(spec, "apparmor")
    if apparmor and apparmor != "unconfined" and not spec.privileged:
        found["apparmorProfile"] = apparmor
    parts = dict(_LABEL)
    given = [item[6:] for item in spec.security_opt if item.startswith("label=")]
    for item in given:
        key, sign, value = item.partition(":")
        if sign:
            parts[key] = value
    if given and "disable" not in given and not spec.privileged:
        found["selinuxLabel"] = ":".join(parts.values())
    return found
