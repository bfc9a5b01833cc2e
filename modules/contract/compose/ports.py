"""Runs in both worlds: Compose's short and long form of published ports."""

from __future__ import annotations

import re
from typing import Any

from ..fields import FieldError, Short

_PORT = re.compile(
    r"(?:(?:\[(?P<ip6>[0-9a-fA-F:.]+)\]|(?P<ip4>\d+\.\d+\.\d+\.\d+)):)?"
    r"(?:(?P<published>\d+(?:-\d+)?)?:)?(?P<target>\d+(?:-\d+)?)(?:/(?P<protocol>\w+))?\Z"
)
_PORT_KEYS = ("target", "published", "published_end", "host_ip", "protocol")


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


PORTS = Short(parse_ports)
