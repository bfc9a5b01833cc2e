"""Runs on the managed host: `features`, `spec` and the version."""

from __future__ import annotations

import os
import sys

from ...agent.files import write_atomic
from ...contract.kernel import CAPABILITY_NAMES
from ..config import RuntimeFailure
from .options import Option, Options, usage
from .records import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .context import Context

_OLDEST = "1.0.0"
_SPEC = (
    Option("-b --bundle", "DIR", "the folder to write config.json to (default: the current one)"),
    Option("-f --file", "FILE", "another file"),
    Option("--rootless", "", "for a user namespace of the caller's own"),
)
_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def version() -> int:
    """Print the versions."""
    sys.stdout.write(f"hostctl-runtime\nspec: {VERSION}\n")
    return 0


def features(context: Context, options: Options, words: list[str]) -> int:
    """Print what this runtime can do, as the specification's features.md has it."""
    import json

    sys.stdout.write(json.dumps(known(), indent=2) + "\n")
    return 0


def known() -> dict[str, Any]:
    """The features structure: read from the tables that the facilities themselves use."""
    from .. import hooks, mount_options, namespaces
    from ..seccomp import spec as seccomp

    return {
        "ociVersionMin": _OLDEST,
        "ociVersionMax": VERSION,
        "hooks": list(hooks.KINDS),
        "mountOptions": mount_options.known(),
        "linux": {
            "namespaces": sorted(namespaces.KINDS),
            "capabilities": list(CAPABILITY_NAMES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": False,
                "rdma": True,
            },
            "seccomp": {"enabled": True, **seccomp.known()},
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": False},
        },
        "annotations": {},
        "potentiallyUnsafeConfigAnnotations": [
            "hostctl.",
            "org.systemd.property.",
            "run.oci.keep_original_groups",
        ],
    }


def spec(context: Context, options: Options, words: list[str]) -> int:
    """Write a config.json that runs a shell. One that is there is left alone: that is an error."""
    import json

    if words:
        raise usage("spec takes no arguments")
    path = options.text("file") or os.path.join(options.text("bundle") or ".", "config.json")
    if os.path.lexists(path):
        raise RuntimeFailure(
            f"cannot write {path}: it exists already", hint="remove it first", ref="file-exists"
        )
    text = json.dumps(starter(rootless=options.on("rootless")), indent=4)
    write_atomic(os.path.abspath(path), text.encode() + b"\n", 0o644)
    return 0


def starter(*, rootless: bool = False) -> dict[str, Any]:
    """A configuration to start from: a shell on a terminal, with the usual mounts and masks."""
    from .. import cgroup
    from ..bundle_security import MASKED_PATHS, READONLY_PATHS

    namespaces = ["pid", "network", "ipc", "uts", "mount"]
    if not cgroup.detect().v1:
        namespaces.append("cgroup")
    linux: dict[str, Any] = {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READONLY_PATHS),
    }
    mounts = [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            *("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            *(() if rootless else ("gid=5",)),
        ),
        _mount(
            "/dev/shm", "tmpfs", "shm", *["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        _mount(
            "/sys/fs/cgroup", "cgroup", "cgroup", *["nosuid", "noexec", "nodev", "relatime", "ro"]
        ),
    ]
    if rootless:
        namespaces = ["user", *(kind for kind in namespaces if kind != "network")]
        mounts[-2] = _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
        linux.pop("resources")
    linux["namespaces"] = [{"type": kind} for kind in namespaces]
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "container",
        "mounts": mounts,
        "linux": linux,
    }


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    return {**found, "options": list(options)} if options else found


COMMANDS = {"features": (features, (), "", -1), "spec": (spec, _SPEC, "", -1)}
