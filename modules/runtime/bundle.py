"""Runs on the managed host, in the agent: writes a container's OCI bundle from its spec and its image.

Source: OCI runtime-spec 1.2 (config.md, config-linux.md), OCI image-spec 1.1 (config.md), and Docker's
defaults for what neither the spec nor the image says.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from ..container import Mount, Spec
from ..contract.errors import CannotApply

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_PIDS_LIMIT = 4096
CPU_PERIOD = 100_000

DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
OTHER_CAPABILITIES = (
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
)
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


def host_name(spec: Spec) -> str:
    """As declared, else the container's name, as much of it as a host's name can be."""
    return spec.hostname or spec.name[:63].rstrip("-_.")


def make_config(
    spec: Spec,
    image: dict[str, Any],
    *,
    folder: str,
    layers: list[str],
    links_dir: str,
    volumes: dict[str, str],
) -> dict[str, Any]:
    """The bundle's config.json.

    Args:
        image: the image's configuration (OCI image-spec config.json).
        folder: the container's data folder; `upper`, `work`, `hosts`, `resolv.conf`, `hostname` lie there.
        layers: short names of the unpacked layers, top first, relative to `links_dir`.
        volumes: mount target -> directory on the host, for volumes and binds.
    Raises:
        CannotApply: there is nothing to run, or the user is not in the image.
    """
    defaults = image.get("config") or {}
    directories = [os.path.join(links_dir, layer) for layer in layers]
    uid, gid, groups = _user(spec.user or defaults.get("User") or "", directories)
    capabilities = _capabilities(spec)
    return {
        "ociVersion": OCI_VERSION,
        "hostname": host_name(spec),
        "root": {"path": "rootfs", "readonly": spec.read_only},
        "annotations": {
            "hostctl.overlay": json.dumps(
                {
                    "cwd": links_dir,
                    "lower": layers,
                    "upper": os.path.join(folder, "upper"),
                    "work": os.path.join(folder, "work"),
                },
                sort_keys=True,
            ),
            "hostctl.init": "true" if spec.init else "false",
            "hostctl.fill": json.dumps(
                {m.target: volumes[m.target] for m in spec.volumes if m.type == "volume"},
                sort_keys=True,
            ),
        },
        "process": {
            "terminal": False,
            "cwd": spec.working_dir or defaults.get("WorkingDir") or "/",
            "args": _arguments(spec, defaults),
            "env": _environment(spec, defaults),
            "user": {"uid": uid, "gid": gid, "additionalGids": groups},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": False,
            "rlimits": [
                {"type": f"RLIMIT_{name.upper()}", "soft": limit.soft, "hard": limit.hard}
                for name, limit in sorted(spec.ulimits.items())
            ],
        },
        "mounts": _mounts(spec, folder, volumes),
        "linux": _linux(spec),
    }


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
    values.update(spec.environment)
    return [f"{name}={value}" for name, value in values.items()]


def _user(user: str, directories: list[str]) -> tuple[int, int, list[int]]:
    """(uid, gid, supplementary gids) of `user`, `user:group`, by name or number, from the image's own files."""
    name, _, group = user.partition(":")
    accounts = [line.split(":") for line in _lines("etc/passwd", directories)]
    groups = [line.split(":") for line in _lines("etc/group", directories)]
    entry = (
        next((a for a in accounts if len(a) > 3 and name in (a[0], a[2])), None) if name else None
    )
    if name and entry is None and not name.isdigit():
        raise CannotApply(
            f"cannot run as user {name}: the image's /etc/passwd has no such user",
            hint='use a number, such as `user: "1000:1000"`',
        )
    uid = int(entry[2]) if entry else int(name or 0)
    gid = int(entry[3]) if entry else 0
    if group:
        found = next((g for g in groups if len(g) > 2 and group in (g[0], g[2])), None)
        if found is None and not group.isdigit():
            raise CannotApply(
                f"cannot run as group {group}: the image's /etc/group has no such group",
                hint='use a number, such as `user: "1000:1000"`',
            )
        return uid, int(found[2]) if found else int(group), []
    login = entry[0] if entry else ("root" if uid == 0 else "")
    extra = [int(g[2]) for g in groups if len(g) > 3 and login and login in g[3].strip().split(",")]
    return uid, gid, sorted({*extra} - {gid})


def _lines(name: str, directories: list[str]) -> list[str]:
    """Lines of a file of the image: the topmost layer that has it decides. Links are not followed."""
    for directory in directories:
        try:
            fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            return []
        with open(fd, encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 20).splitlines()
    return []


def capability_name(name: str) -> str:
    """`net_admin`, `CAP_NET_ADMIN` -> `CAP_NET_ADMIN`."""
    upper = name.upper()
    return upper if upper.startswith("CAP_") or upper == "ALL" else f"CAP_{upper}"


def _capabilities(spec: Spec) -> list[str]:
    everything = {*DEFAULT_CAPABILITIES, *OTHER_CAPABILITIES}
    if spec.privileged:
        return sorted(everything)
    added = {capability_name(name) for name in spec.cap_add}
    dropped = {capability_name(name) for name in spec.cap_drop}
    unknown = sorted((added | dropped) - everything - {"ALL"})
    if unknown:
        raise CannotApply(
            f"cannot start {spec.name}: there is no capability {unknown[0]}",
            hint="see capabilities(7) for their names, such as NET_ADMIN",
        )
    base = everything if "ALL" in added else set(DEFAULT_CAPABILITIES)
    kept = set() if "ALL" in dropped else base - dropped
    return sorted(kept | (added - {"ALL"}))


def _mounts(spec: Spec, folder: str, volumes: dict[str, str]) -> list[dict[str, Any]]:
    access = "rw" if spec.privileged else "ro"
    quiet = ["nosuid", "noexec", "nodev"]
    mounts = [
        _mount("/proc", "proc", "proc", quiet),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/sys", "sysfs", "sysfs", [*quiet, access]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*quiet, "relatime", access]),
        _mount("/dev/mqueue", "mqueue", "mqueue", quiet),
        _mount("/dev/shm", "tmpfs", "shm", [*quiet, "mode=1777", "size=65536k"]),
    ]
    for name in ("resolv.conf", "hosts", "hostname"):
        source = os.path.join(folder, name)
        mounts.append(_mount(f"/etc/{name}", "bind", source, ["rbind", "rprivate", "rw"]))
    wanted = [*spec.volumes, *(_short_tmpfs(item) for item in spec.tmpfs)]
    for mount in sorted(wanted, key=lambda item: item.target.count("/")):
        if mount.type == "tmpfs":
            options = ["nosuid", "nodev", f"mode={mount.tmpfs_mode:o}"]
            options += [f"size={mount.tmpfs_size}"] if mount.tmpfs_size else []
            mounts.append(_mount(mount.target, "tmpfs", "tmpfs", options))
        else:
            options = ["rbind", "rprivate", "ro" if mount.read_only else "rw"]
            mounts.append(_mount(mount.target, "bind", volumes[mount.target], options))
    return mounts


def _mount(target: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": options}


def _short_tmpfs(text: str) -> Mount:
    """Compose's `tmpfs: /run` or `/run:size=64m,mode=755`."""
    from ..contract.fields import parse_size

    target, _, options = text.partition(":")
    values = dict(item.split("=", 1) for item in options.split(",") if "=" in item)
    return Mount(
        target,
        "tmpfs",
        tmpfs_size=int(parse_size(values.get("size", "0"))),
        tmpfs_mode=int(values.get("mode", "1777"), 8),
    )


def _linux(spec: Spec) -> dict[str, Any]:
    namespaces = ["pid", "mount", "ipc", "uts", "cgroup"]
    if spec.network_mode != "host":
        namespaces.append("network")
    linux: dict[str, Any] = {
        "namespaces": [{"type": name} for name in namespaces],
        "cgroupsPath": f"hostctl/containers/{spec.name}",
        "resources": resources(spec),
    }
    if not spec.privileged:
        linux["maskedPaths"] = list(MASKED_PATHS)
        linux["readonlyPaths"] = list(READONLY_PATHS)
    return linux


def resources(spec: Spec) -> dict[str, Any]:
    """The `linux.resources` object: limits that are set, the pids limit, and the device rules."""
    found: dict[str, Any] = {"pids": {"limit": spec.pids_limit or DEFAULT_PIDS_LIMIT}}
    if spec.mem_limit:
        found["memory"] = {"limit": spec.mem_limit, "swap": 2 * spec.mem_limit}
    if spec.cpus:
        found["cpu"] = {"quota": int(spec.cpus * CPU_PERIOD), "period": CPU_PERIOD}
    if spec.privileged:
        found["devices"] = [{"allow": True, "access": "rwm"}]
    else:
        found["devices"] = [{"allow": False, "access": "rwm"}]
    return found


def signal_number(name: str) -> int:
    """A signal's number from `SIGTERM`, `TERM` or `15`.

    Raises:
        CannotApply: there is no such signal.
    """
    if name.isdigit():
        return int(name)
    upper = name.upper()
    found = getattr(signal, upper if upper.startswith("SIG") else f"SIG{upper}", None)
    if not isinstance(found, signal.Signals):
        raise CannotApply(
            f"cannot use stop signal {name}: there is no such signal",
            hint="see signal(7), such as SIGTERM",
        )
    return int(found)
