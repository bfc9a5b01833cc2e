"""Runs in both worlds: Compose's short forms of a container's keys, as markers in its spec's annotations.

Each `parse_*` takes what people write in a service and returns the long form; the long form passes
through. `FieldError.path` says which part of the value is meant.
"""

from __future__ import annotations

import os
import re
from typing import Any

from .fields import FieldError, Short, parse_size

_PORT = re.compile(
    r"(?:(?:\[(?P<ip6>[0-9a-fA-F:.]+)\]|(?P<ip4>\d+\.\d+\.\d+\.\d+)):)?"
    r"(?:(?P<published>\d+(?:-\d+)?)?:)?(?P<target>\d+(?:-\d+)?)(?:/(?P<protocol>\w+))?\Z"
)
_PORT_KEYS = ("target", "published", "published_end", "host_ip", "protocol")
_MOUNT_KEYS = ("type", "source", "target", "read_only", "tmpfs_size", "tmpfs_mode")
_NETWORK_LATER = (
    "ipv6_address",
    "mac_address",
    "priority",
    "gw_priority",
    "link_local_ips",
    "driver_opts",
)


def text(value: Any) -> Any:
    """A scalar as the text that Compose makes of it; maps and lists pass through to be refused."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def parse_command(value: Any) -> Any:
    """Arguments from a list, or from a string split as a shell would (no shell runs it); empty clears."""
    if isinstance(value, str):
        import shlex

        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise FieldError(f"{value!r} cannot be split: {str(error).lower()}") from error
    return tuple(text(item) for item in value) if isinstance(value, (list, tuple)) else value


def parse_environment(value: Any) -> Any:
    """Names to values, from a map or from `NAME=VALUE`; without a value it is the caller's, or left out."""
    pairs = _pairs(value, "=", "write NAME=VALUE")
    if pairs is None:
        return value
    out: dict[str, Any] = {}
    for name, item in pairs:
        if not name or "=" in name or "\0" in name:
            raise FieldError(f"{name!r} is no name of an environment variable")
        if item is None:
            item = os.environ.get(name)
        if item is not None:
            out[name] = text(item)
    return out


def parse_labels(value: Any) -> Any:
    """Names to values, from a map or from `NAME=VALUE`; without a value it is empty."""
    pairs = _pairs(value, "=", "write NAME=VALUE")
    if pairs is None:
        return value
    return {name: "" if item is None else text(item) for name, item in pairs}


def parse_extra_hosts(value: Any) -> Any:
    """`NAME:ADDRESS`, from a list of `NAME:ADDRESS` or `NAME=ADDRESS`, or from a map."""
    if isinstance(value, dict):
        items = [
            (name, one)
            for name, many in value.items()
            for one in (many if isinstance(many, list) else [many])
        ]
    elif isinstance(value, (list, tuple)):
        items = []
        for index, item in enumerate(value):
            name, sign, address = str(item).partition("=" if "=" in str(item) else ":")
            if not sign or not name or not address:
                raise FieldError(f"{item!r} is no host entry; write NAME:ADDRESS", index)
            items.append((name, address))
    else:
        return value
    return tuple(f"{name.strip()}:{str(address).strip().strip('[]')}" for name, address in items)


def _pairs(value: Any, sign: str, hint: str) -> list[tuple[str, Any]] | None:
    """(name, value or None) pairs of a map or a list of strings; None for anything else."""
    if isinstance(value, dict):
        return [(str(name), item) for name, item in value.items()]
    if not isinstance(value, (list, tuple)):
        return None
    out = []
    for index, item in enumerate(value):
        if isinstance(item, (dict, list)) or item is None:
            raise FieldError(f"{item!r} is no pair; {hint}", index)
        name, found, rest = str(item).partition(sign)
        out.append((name, rest if found else None))
    return out


def parse_ports(value: Any) -> Any:
    """`[[IP:]HOST:]CONTAINER[/PROTOCOL]` with ranges, a number, or the long form with its keys."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(port for index, item in enumerate(value) for port in _port(item, index))


def _port(item: Any, index: int) -> list[Any]:
    if isinstance(item, dict):
        return _long_port(item, index)
    if not isinstance(item, (str, int)) or isinstance(item, bool):
        return [item]
    match = _PORT.match(str(item).strip())
    if not match:
        raise FieldError(
            f'{item!r} is no port; write it like "8080:80" or "127.0.0.1:53:53/udp"', index
        )
    host_ip = match["ip6"] or match["ip4"] or ""
    return _spread(
        match["target"], match["published"], host_ip, (match["protocol"] or "tcp").lower(), index
    )


def _long_port(item: dict[str, Any], index: int) -> list[Any]:
    for key in item:
        if key in ("name", "app_protocol") or (
            key == "mode" and item[key] != "host" and item[key] != "ingress"
        ):
            raise FieldError(f"not supported yet: {key}", index, key)
    left = {key: found for key, found in item.items() if key not in ("mode",)}
    if isinstance(left.get("published"), str):
        unknown = [key for key in left if key not in _PORT_KEYS]
        if not unknown:
            host_ip, protocol = str(left.get("host_ip", "")), str(left.get("protocol", "tcp"))
            return _spread(str(left.get("target", "")), left["published"], host_ip, protocol, index)
    return [left]


def _spread(
    target: str, published: str | None, host_ip: str, protocol: str, index: int
) -> list[Any]:
    """One entry per container port; one container port with a range of host ports takes one of them."""
    if protocol not in ("tcp", "udp"):
        raise FieldError(f"{protocol!r} is no protocol here; tcp or udp", index)
    inside = _range(target, index)
    outside = _range(published, index) if published else None
    common = {"host_ip": host_ip, "protocol": protocol}
    if outside is None:
        return [{"target": port, **common} for port in inside]
    if len(inside) == 1 and len(outside) > 1:
        return [
            {"target": inside[0], "published": outside[0], "published_end": outside[-1], **common}
        ]
    if len(inside) != len(outside):
        raise FieldError(f"the ranges {published} and {target} have different lengths", index)
    return [{"target": port, "published": host, **common} for host, port in zip(outside, inside)]


def _range(value: str, index: int) -> range:
    start, sign, end = value.partition("-")
    if not start.isdigit() or (sign and not end.isdigit()):
        raise FieldError(f"{value!r} is no port", index)
    first, last = int(start), int(end or start)
    if not 0 < first <= last <= 65535:
        raise FieldError(f"{value!r} is no range of ports between 1 and 65535", index)
    return range(first, last + 1)


def parse_volumes(value: Any) -> Any:
    """`SOURCE:TARGET[:ro]` (a path is a bind, a word a named volume), `TARGET` alone, or the long form."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(_mount(item, index) for index, item in enumerate(value))


def _mount(item: Any, index: int) -> Any:
    if isinstance(item, dict):
        return _long_mount(item, index)
    if not isinstance(item, str):
        return item
    parts = item.split(":")
    if len(parts) > 3 or not all(parts):
        raise FieldError(f"{item!r} is no volume; write SOURCE:TARGET or SOURCE:TARGET:ro", index)
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    if not target.startswith("/"):
        raise FieldError(f"{item!r}: the path in the container must start with /", index)
    read_only = False
    for option in parts[2].split(",") if len(parts) == 3 else []:
        if option in ("ro", "rw"):
            read_only = option == "ro"
        elif (
            option in ("z", "Z", "nocopy", "U", "cached", "delegated", "consistent")
            or "propagation" in option
        ):
            raise FieldError(f"not supported yet: the volume option {option}", index)
        else:
            raise FieldError(f"{option!r} is no option of a volume; ro or rw", index)
    kind = "bind" if source.startswith(("/", ".", "~")) else "volume"
    return {"type": kind, "source": source, "target": target, "read_only": read_only}


def _long_mount(item: dict[str, Any], index: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in item.items():
        if key == "bind" and isinstance(value, dict) and value in ({}, {"create_host_path": True}):
            continue
        if key in ("volume", "bind", "image") and isinstance(value, dict):
            raise FieldError(f"not supported yet: {next(iter(value), key)}", index, key)
        if key == "consistency":
            continue
        if key == "tmpfs" and isinstance(value, dict):
            for name, part in value.items():
                if name not in ("size", "mode"):
                    raise FieldError(f"{name!r} is no key of tmpfs; size or mode", index, key, name)
                out[f"tmpfs_{name}"] = _mode(part, index) if name == "mode" else _size(part, index)
            continue
        out[key] = value
    kind = out.get("type", "volume")
    if kind in ("image", "npipe", "cluster"):
        raise FieldError(f"not supported yet: the volume type {kind}", index, "type")
    if kind not in ("volume", "bind", "tmpfs"):
        raise FieldError(f"{kind!r} is no type of volume; volume, bind or tmpfs", index, "type")
    if not str(out.get("target", "/")).startswith("/"):
        raise FieldError("the path in the container must start with /", index, "target")
    return out


def _size(value: Any, index: int) -> Any:
    try:
        return parse_size(value)
    except ValueError as error:
        raise FieldError(str(error), index, "tmpfs", "size") from error


def _mode(value: Any, index: int) -> Any:
    if isinstance(value, str):
        digits = value[2:] if value.startswith("0o") else value
        if not re.fullmatch("[0-7]{3,4}", digits):
            raise FieldError(
                f"{value!r} is no mode; write octal digits, such as '1777'", index, "tmpfs", "mode"
            )
        return int(digits, 8)
    return value


def parse_networks(value: Any) -> Any:
    """Names of networks, or a map from names to `aliases` and `ipv4_address`."""
    if isinstance(value, dict):
        out = []
        for name, body in value.items():
            if body is not None and not isinstance(body, dict):
                raise FieldError("the options of a network are a map", name)
            for key in body or {}:
                if key in _NETWORK_LATER:
                    raise FieldError(f"not supported yet: {key}", name, key)
                if key not in ("aliases", "ipv4_address"):
                    raise FieldError(f"{key!r} is no key here; aliases or ipv4_address", name, key)
            out.append({"network": name, **(body or {})})
        return tuple(out)
    if isinstance(value, (list, tuple)):
        return tuple({"network": item} if isinstance(item, str) else item for item in value)
    return value


def parse_ulimits(value: Any) -> Any:
    """One number for soft and hard, or a map of both."""
    if not isinstance(value, dict):
        return value
    out = {}
    for name, item in value.items():
        if not re.fullmatch("[a-z]+", str(name)):
            raise FieldError(
                f"{name!r} is no resource limit; write its name in lower case, such as nofile", name
            )
        single = isinstance(item, (int, str)) and not isinstance(item, bool)
        out[name] = {"soft": item, "hard": item} if single else item
    return out


def parse_tmpfs(value: Any) -> Any:
    """One path or several, each with options (`/run:size=64m`)."""
    return (value,) if isinstance(value, str) else value


def parse_cpus(value: Any) -> Any:
    """A number of CPUs, as a number or in quotes."""
    if isinstance(value, str):
        if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", value.strip()):
            raise FieldError(f'{value!r} is no number of CPUs; write it like "0.5"')
        return float(value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def parse_capabilities(value: Any) -> Any:
    """Capability names in the kernel's spelling; `ALL` is all of them."""
    if not isinstance(value, (list, tuple)):
        return value
    out = []
    for item in value:
        name = item.upper() if isinstance(item, str) else item
        prefixed = not isinstance(name, str) or name == "ALL" or name.startswith("CAP_")
        out.append(name if prefixed else f"CAP_{name}")
    return tuple(out)


def parse_depends_on(value: Any) -> Any:
    """Names of services, or a map with their `condition`."""
    if isinstance(value, (list, tuple)):
        return {str(name): {} for name in value}
    if not isinstance(value, dict):
        return value
    for name, body in value.items():
        if body is not None and not isinstance(body, dict):
            raise FieldError("what a container depends on is a map with condition", name)
        for key, item in (body or {}).items():
            if key not in ("condition", "restart", "required"):
                raise FieldError(f"{key!r} is no key here; condition", name, key)
            if key == "condition" and item in ("service_healthy", "service_completed_successfully"):
                raise FieldError(f"not supported yet: {item}", name, key)
            if key == "condition" and item != "service_started":
                raise FieldError(f"{item!r} is no condition; service_started", name, key)
            if (key == "restart" and item is not False) or (key == "required" and item is not True):
                raise FieldError(f"not supported yet: {key}: {text(item)}", name, key)
    return {str(name): {} for name in value}


def parse_restart(value: Any) -> Any:
    """no, always, unless-stopped, on-failure or on-failure:N."""
    if value is False:
        return "no"
    if isinstance(value, str) and not re.fullmatch(
        r"no|always|unless-stopped|on-failure(:\d+)?", value
    ):
        raise FieldError(
            f"{value!r} is no restart policy; no, always, unless-stopped, on-failure or on-failure:N"
        )
    return value


def parse_signal(value: Any) -> Any:
    """A signal as `SIGTERM`, from `TERM`, `SIGTERM` or its number."""
    import signal

    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return value
    name = str(value).upper()
    if name.isdigit():
        try:
            return signal.Signals(int(name)).name
        except ValueError:
            raise FieldError(f"{value!r} is no signal") from None
    name = name if name.startswith("SIG") else f"SIG{name}"
    realtime = re.fullmatch(r"SIGRT(MIN\+|MAX-)\d+", name)
    if not realtime and name not in signal.Signals.__members__:
        raise FieldError(f"{value!r} is no signal; write it like SIGTERM")
    return name


def parse_network_mode(value: Any) -> Any:
    """none, host or bridge (the project's default network)."""
    if isinstance(value, str) and value not in ("", "none", "host", "bridge"):
        raise FieldError(f"not supported yet: network_mode {value}")
    return "" if value == "bridge" else value


def parse_words(value: Any) -> Any:
    """A list of strings, from a list or from one string."""
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(text(item) for item in value) if isinstance(value, (list, tuple)) else value


CAPABILITIES = Short(parse_capabilities)
COMMAND = Short(parse_command)
CPUS = Short(parse_cpus)
DEPENDS_ON = Short(parse_depends_on)
ENVIRONMENT = Short(parse_environment)
EXTRA_HOSTS = Short(parse_extra_hosts)
LABELS = Short(parse_labels)
NETWORK_MODE = Short(parse_network_mode)
NETWORKS = Short(parse_networks)
PORTS = Short(parse_ports)
RESTART = Short(parse_restart)
SIGNAL = Short(parse_signal)
TMPFS = Short(parse_tmpfs)
ULIMITS = Short(parse_ulimits)
VOLUMES = Short(parse_volumes)
WORDS = Short(parse_words)
