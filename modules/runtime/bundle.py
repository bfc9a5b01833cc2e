"""Runs on the managed host, in the agent: writes a container's OCI bundle from its spec and its image.

Source: OCI runtime-spec 1.2 (config.md, config-linux.md), OCI image-spec 1.1 (config.md), and Docker's
defaults for what neither the spec nor the image says.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ..container import Spec
from ..contract.errors import CannotApply
from . import apparmor, bundle_security, bundle_user
from .bundle_mounts import mounts
from .bundle_resources import nodes, resources
from .config import APPARMOR, PEERS, RUNTIME
from .host_devices import listing
from .seccomp import profile

if TYPE_CHECKING:
    from .owners import Owners

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def host_name(spec: Spec) -> str:
    """As declared, else the container's name, as much of it as a host's name can be."""
    if spec.uts == "host":
        return os.uname().nodename
    return spec.hostname or spec.name[:63].rstrip("-_.")


def make_config(
    spec: Spec,
    image: dict[str, Any],
    *,
    folder: str,
    layers: list[str],
    links_dir: str,
    volumes: dict[str, str],
    owners: Owners | None = None,
) -> dict[str, Any]:
    """The bundle's config.json.

    Args:
        image: the image's configuration (OCI image-spec config.json).
        folder: the container's data folder; `upper`, `work`, `hosts`, `resolv.conf`, `hostname` lie there.
        layers: short names of the unpacked layers, top first, relative to `links_dir`.
        volumes: mount target -> directory on the host, for volumes and binds.
        owners: of a container with a user namespace.
    Raises:
        CannotApply: there is nothing to run, or the user is not in the image.
    """
    defaults = image.get("config") or {}
    directories = [os.path.join(links_dir, layer) for layer in layers]
    user = spec.user or defaults.get("User") or ""
    uid, gid, groups = bundle_user.identity(user, spec.group_add, directories)
    capabilities = bundle_user.capabilities(spec)
    devices = listing() if spec.privileged else []
    devices += [node for item in spec.devices for node in nodes(item.source, item.target)]
    process = {
        "terminal": spec.tty,
        "cwd": spec.working_dir or defaults.get("WorkingDir") or "/",
        "args": _arguments(spec, defaults),
        "env": _environment(spec, defaults),
        "user": {"uid": uid, "gid": gid, "additionalGids": groups},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "noNewPrivileges": bundle_security.setting(spec, "no-new-privileges") == "true",
        "rlimits": [
            {"type": f"RLIMIT_{name.upper()}", "soft": limit.soft, "hard": limit.hard}
            for name, limit in sorted(spec.ulimits.items())
        ],
        **bundle_security.labels(spec),
    }
    if spec.tty:
        # Of 0 by 0, the kernel's own, some programs make nothing. Who attaches gives it another one.
        process["consoleSize"] = {"height": 24, "width": 80}
    # Also where it is 0: a monitor's own score is that of whoever started it.
    process["oomScoreAdj"] = spec.oom_score_adj
    config = {
        "ociVersion": OCI_VERSION,
        "root": {"path": "rootfs", "readonly": spec.read_only},
        "annotations": {
            **spec.annotations,
            **_annotations(spec, folder, layers, links_dir, owners),
        },
        "process": process,
        "mounts": mounts(spec, folder, volumes, owners.mapped if owners else ()),
        "linux": {
            **_linux(spec, devices, capabilities, mapped=owners is not None),
            **(owners.linux() if owners else {}),
        },
    }
    if spec.uts != "host":
        config["hostname"] = host_name(spec)
    if spec.domainname:
        config["domainname"] = spec.domainname
    return config


def _annotations(
    spec: Spec, folder: str, layers: list[str], links_dir: str, owners: Owners | None
) -> dict[str, str]:
    """What hostctl's own runtime is told besides the specification (`runtime/config.py`)."""
    overlay: dict[str, Any] = {
        "cwd": links_dir,
        "lower": layers,
        "upper": os.path.join(folder, "upper"),
        "work": os.path.join(folder, "work"),
    }
    if owners and owners.shifted:
        overlay.update(cwd=owners.layers, shifted=True)
    found = {
        "hostctl.overlay": json.dumps(overlay, sort_keys=True),
        "hostctl.init": "true" if spec.init else "false",
    }
    if bundle_security.confined(spec):
        found[APPARMOR] = apparmor.DEFAULT
    if spec.runtime:
        found[RUNTIME] = spec.runtime
    peers = bundle_security.peers(spec)
    if peers and owners:
        # What belongs to a user namespace is used by those who are in it.
        peers["user"] = next(iter(peers.values()))
    if peers:
        found[PEERS] = json.dumps(peers, sort_keys=True)
    return found


def _arguments(spec: Spec, defaults: dict[str, Any]) -> list[str]:
    """Docker's rule: a set entrypoint drops the image's Cmd; an empty one clears it."""
    entrypoint = spec.entrypoint
    if entrypoint is None:
        entrypoint = tuple(defaults.get("Entrypoint") or ())
        command = spec.command
        if command is None:
            command = tuple(defaults.get("Cmd") or ())
    else:
        command = spec.command or ()
    arguments = [*entrypoint, *command]
    if not arguments:
        raise CannotApply(
            f"cannot start {spec.name}: neither the image nor the playbook says what to run",
            hint="set `command: [PROGRAM, ARGUMENT, ...]`",
        )
    return arguments


def _environment(spec: Spec, defaults: dict[str, Any]) -> list[str]:
    values = dict(
        item.split("=", 1) for item in (DEFAULT_PATH, *(defaults.get("Env") or ())) if "=" in item
    )
    values["HOSTNAME"] = host_name(spec)
    if spec.tty:
        values["TERM"] = "xterm"
    values.update(spec.environment)
    return [f"{name}={value}" for name, value in values.items()]


def _linux(
    spec: Spec, devices: list[dict[str, Any]], capabilities: list[str], *, mapped: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "namespaces": bundle_security.namespaces(spec),
        "cgroupsPath": cgroup_path(spec),
        "resources": resources(spec),
        **bundle_security.paths(spec),
    }
    choice = bundle_security.setting(spec, "seccomp")
    filtered = profile.for_container(capabilities, choice, privileged=spec.privileged)
    if filtered:
        found["seccomp"] = filtered
    if devices:
        found["devices"] = devices
    sysctls = bundle_security.sysctls(spec, mapped=mapped)
    if sysctls:
        found["sysctl"] = sysctls
    return found


def cgroup_path(spec: Spec) -> str:
    """Where its processes live, from the root of the host's cgroups, as `cgroup_parent` has it.

    A slice's name says where it lies: `a-b.slice` is in `a.slice` (systemd.slice(5)).
    """
    parent = spec.cgroup_parent.strip("/") or "hostctl/containers"
    if "/" not in parent and parent.endswith(".slice"):
        words = parent[: -len(".slice")].split("-")
        parent = "/".join(f"{'-'.join(words[:n])}.slice" for n in range(1, len(words) + 1))
    return f"{parent}/{spec.name}"
