"""Runs in both worlds: what keeps a container apart from its host, and what opens it."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from ..fields import FieldError, Short
from ..kernel import CAPABILITY_NAMES, IPC_SYSCTLS
from .values import pairs, text

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
RUNTIMES = ("crun", "runc")
SECCOMP_CONTENT = "seccomp=sha256:"
"""In `security_opt` of what the host is told: a profile that travels as content, by its digest."""
_SWITCHES = {
    "seccomp": "unconfined, builtin, or a file with a profile",
    "apparmor": "unconfined, or the name of a profile",
    "label": "disable, or user:, role:, type:, level: with a name",
    "systempaths": "unconfined",
    "no-new-privileges": "true or false",
}


def parse_capabilities(value: Any) -> Any:
    """Capability names in the kernel's spelling; `ALL` is all of them."""
    if not isinstance(value, (list, tuple)):
        return value
    known = {"ALL", *CAPABILITY_NAMES}
    out = []
    for index, item in enumerate(value):
        if not isinstance(item, str):
            return value
        name = item.upper()
        name = name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"
        if name not in known:
            raise FieldError(
                f"{item!r} is no capability; see capabilities(7) for their names, such as NET_ADMIN",
                index,
            )
        out.append(name)
    return tuple(out)


def parse_devices(value: Any) -> Any:
    """`HOST[:CONTAINER][:rwm]`, or the long form."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(_device(item, index) for index, item in enumerate(value))


def _device(item: Any, index: int) -> Any:
    if not isinstance(item, str):
        if isinstance(item, dict) and "source" in item and "target" not in item:
            return {**item, "target": item["source"]}
        return item
    if re.fullmatch(r"[A-Za-z][\w.-]*/[\w.-]+=[\w.:-]+", item):
        raise FieldError(f"not supported yet: {item}, a CDI device", index)
    parts = item.split(":")
    if len(parts) > 3 or not all(parts) or not item.startswith("/"):
        raise FieldError(
            f"{item!r} is no device; write HOST:CONTAINER or HOST:CONTAINER:rwm", index
        )
    source, target, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        target, permissions = parts[1], parts[2]
    elif len(parts) == 2:
        short = re.fullmatch("[rwm]+", parts[1])
        target, permissions = (target, parts[1]) if short else (parts[1], permissions)
    return {"source": source, "target": target, "permissions": permissions}


def parse_device_path(value: Any) -> Any:
    """An absolute path, without `..`."""
    if isinstance(value, str):
        if not value.startswith("/") or "\0" in value:
            raise FieldError(f"{value!r} is no path of a device; it starts with /")
        return posixpath.normpath(value)
    return value


def parse_device_rules(value: Any) -> Any:
    """`TYPE MAJOR:MINOR ACCESS`, such as `c 188:* rwm`."""
    if not isinstance(value, (list, tuple)):
        return value
    for index, item in enumerate(value):
        if isinstance(item, str) and not re.fullmatch(
            r"[abc] (\d+|\*):(\d+|\*) (?!.*([rwm]).*\3)[rwm]{1,3}", item
        ):
            raise FieldError(f"{item!r} is no device rule; write it like 'c 188:* rwm'", index)
    return tuple(value)


def parse_security_opt(value: Any) -> Any:
    """`NAME=VALUE` of each switch, from `NAME=VALUE`, `NAME:VALUE` or `no-new-privileges` alone."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(_switch(item, index) for index, item in enumerate(value))


def _switch(item: Any, index: int) -> Any:
    if not isinstance(item, str):
        return item
    name, _, setting = item.partition("=" if "=" in item.partition(":")[0] else ":")
    if name == "no-new-privileges" and setting in ("", "true", "false"):
        return f"{name}={setting or 'true'}"
    if name not in _SWITCHES:
        raise FieldError(f"{item!r} is no security option; one of {', '.join(_SWITCHES)}", index)
    if (
        not setting
        or name == "no-new-privileges"
        or (name == "systempaths" and setting != "unconfined")
        or (name == "label" and not re.fullmatch(r"disable|(user|role|type|level):.+", setting))
    ):
        raise FieldError(f"{item!r}: {name} is {_SWITCHES[name]}", index)
    return f"{name}={setting}"


def parse_sysctls(value: Any) -> Any:
    """Kernel parameters of the container's own namespaces, as a map or as `NAME=VALUE`."""
    found = pairs(value, "=", "write NAME=VALUE")
    if found is None:
        return value
    out = {}
    for name, item in found:
        if name == "kernel.hostname":
            raise FieldError("kernel.hostname has a key of its own: hostname", name)
        own = name in IPC_SYSCTLS or name.startswith(("net.", "fs.mqueue."))
        if not own and name != "kernel.domainname":
            raise FieldError(
                f"{name} belongs to the whole host, not to a container; use a sysctl of net.,"
                " fs.mqueue. or IPC, or set it on the host",
                name,
            )
        if item is None or not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or ".." in name:
            raise FieldError(f"{name!r} needs a name and a value; write NAME=VALUE", name)
        out[name] = text(item)
    return out


def parse_pid(value: Any) -> Any:
    """host, `service:NAME` or `container:NAME`; left out: a pid namespace of its own."""
    return _namespace(value, "pid", ("host",))


def parse_ipc(value: Any) -> Any:
    """private (as left out), shareable, host, none, `service:NAME` or `container:NAME`."""
    return _namespace(value, "ipc", ("private", "shareable", "none", "host"))


def _namespace(value: Any, key: str, words: tuple[str, ...]) -> Any:
    if not isinstance(value, str) or not value:
        return value
    kind, sign, name = value.partition(":")
    if value in words or (kind in ("service", "container") and sign and name):
        return "" if value == "private" else value
    raise FieldError(
        f"{value!r} is no mode of {key}; {', '.join(words)}, service:NAME or container:NAME"
    )


def parse_host_only(value: Any) -> Any:
    """host, or left out: one of its own."""
    if isinstance(value, str) and value not in ("", "private", "host"):
        raise FieldError(f"{value!r} is no mode here; host, or leave it out")
    return "" if value == "private" else value


def parse_userns(value: Any) -> Any:
    """private (or auto, as podman has it): users of the project's own; host, or left out: the host's."""
    if not isinstance(value, str) or value in ("", "private"):
        return value
    if value == "host":
        return ""
    if value == "auto":
        return "private"
    name = value.partition(":")[0]
    why = {
        "auto": "the size is 65536 for all, without options",
        "keep-id": "it is for podman without root, where the one who calls has an id to keep",
        "nomap": "it is for podman without root",
        "container": "containers that share pid or ipc share it by themselves, and a project has one range",
        "ns": "it would tie the container to a process of the host",
    }.get(name, "")
    raise FieldError(
        f"{value!r} is no mode of userns_mode{f': {why}' if why else ''}; host, private or auto"
    )


def parse_annotations(value: Any) -> Any:
    """Names to values for the OCI bundle, as a map or as `NAME=VALUE`."""
    found = pairs(value, "=", "write NAME=VALUE")
    if found is None:
        return value
    for name, _ in found:
        if not name or name.startswith("hostctl."):
            raise FieldError(f"{name!r} is a name that hostctl keeps for itself", name)
    return {name: "" if item is None else text(item) for name, item in found}


def parse_runtime(value: Any) -> Any:
    """crun or runc, which the host has; left out: hostctl's own."""
    if isinstance(value, str) and value not in ("", *RUNTIMES):
        raise FieldError(
            f"{value!r} is no runtime; {' or '.join(RUNTIMES)} of the host, or leave it out for hostctl's own"
        )
    return value


ANNOTATIONS = Short(parse_annotations)
CAPABILITIES = Short(parse_capabilities)
DEVICE_PATH = Short(parse_device_path)
DEVICE_RULES = Short(parse_device_rules)
DEVICES = Short(parse_devices)
HOST_ONLY = Short(parse_host_only)
IPC = Short(parse_ipc)
PID = Short(parse_pid)
RUNTIME = Short(parse_runtime)
SECURITY_OPT = Short(parse_security_opt)
SYSCTLS = Short(parse_sysctls)
USERNS = Short(parse_userns)
