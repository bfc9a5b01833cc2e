"""Runs in both worlds: a container's networks, their options, and names for its /etc/hosts."""

from __future__ import annotations

import re
from typing import Any

from ..fields import FieldError, Short

_NETWORK_LATER = (
    "ipv6_address",
    "mac_address",
    "priority",
    "gw_priority",
    "link_local_ips",
    "driver_opts",
)


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


def parse_network_mode(value: Any) -> Any:
    """none, host or bridge (the project's default network)."""
    if isinstance(value, str) and value not in ("", "none", "host", "bridge"):
        raise FieldError(f"not supported yet: network_mode {value}")
    return "" if value == "bridge" else value


def parse_extra_hosts(value: Any) -> Any:
    """`NAME:ADDRESS`, from a list of `NAME:ADDRESS` or `NAME=ADDRESS`, or from a map."""
    if isinstance(value, dict):
        items = [
            (name, one)
            for name, many in value.items()
            for one in (many if isinstance(many, list) else [many])
        ]
        places: list[str | int] = [name for name, _ in items]
    elif isinstance(value, (list, tuple)):
        items = []
        for index, item in enumerate(value):
            name, sign, address = str(item).partition("=" if "=" in str(item) else ":")
            if not sign or not name or not address:
                raise FieldError(f"{item!r} is no host entry; write NAME:ADDRESS", index)
            items.append((name, address))
        places = list(range(len(items)))
    else:
        return value
    return tuple(_host(*item, place) for item, place in zip(items, places))


def _host(name: Any, address: Any, place: str | int) -> str:
    """One line of /etc/hosts: nothing in it may end the line, begin a comment or be a second name."""
    name, address = str(name).strip(" "), str(address).strip(" ").strip("[]")
    if not re.fullmatch(r"[\w.-]+", name):
        raise FieldError(f"{name!r} is no name of a host", place)
    if address != "host-gateway":
        import ipaddress

        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise FieldError(
                f"{address!r} is no address; write an IP address or host-gateway", place
            ) from None
    return f"{name}:{address}"


EXTRA_HOSTS = Short(parse_extra_hosts)
NETWORKS = Short(parse_networks)
NETWORK_MODE = Short(parse_network_mode)
