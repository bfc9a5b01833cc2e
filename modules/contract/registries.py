"""Runs in both worlds: what a host is told about registries (`hostctl_registries`), and which login is for which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

_MIRROR = re.compile(
    r"(?:(https?)://)?((?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]+)?)((?:/[^\s?#/]+)*)/?"
)
_LOGIN = ("username", "password")
# Names under which files of Docker and Podman know docker.io.
DOCKER_HUB = (
    "docker.io",
    "index.docker.io",
    "https://index.docker.io/v1/",
    "registry-1.docker.io",
)


@dataclass(frozen=True)
class Mirror:
    """A server asked before the registry itself; `scheme` is empty where none was written."""

    scheme: str
    host: str
    prefix: str


@dataclass(frozen=True)
class RegistrySettings:
    """How one registry is spoken to.

    Attributes:
        insecure: http, or https with any certificate, is fine.
        mirrors: servers that are asked first, in order: `host[:port][/prefix]`, perhaps with a scheme.
        ca: certificates that are trusted besides the system's: PEM, or the path of a file on the host.
        cert, key: what the host shows of itself, in the same form.
        username, password: they win over the operator's files.
    """

    insecure: bool = False
    mirrors: tuple[str, ...] = ()
    ca: str = ""
    cert: str = ""
    key: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)


def parse_registries(value: Any) -> dict[str, RegistrySettings]:
    """`{host: {setting: value}}`, as written and as sent.

    Raises:
        ValueError: what is wrong, with registry and setting; never with a value that may be secret.
    """
    if not isinstance(value, Mapping):
        raise ValueError("it is no map of registries")
    return {str(host): _settings(str(host), given) for host, given in value.items()}


def settings_for(registries: Mapping[str, RegistrySettings], host: str) -> RegistrySettings:
    """The settings of a registry; docker.io has several names."""
    if host in registries:
        return registries[host]
    if host in DOCKER_HUB:
        for name in DOCKER_HUB:
            if name in registries:
                return registries[name]
    return RegistrySettings()


def parse_mirror(text: str) -> Mirror:
    """`[http[s]://]host[:port][/prefix]`. Raises ValueError."""
    match = _MIRROR.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no server: write host[:port][/prefix]")
    return Mirror(match[1] or "", match[2], match[3].strip("/"))


def sent(registries: Mapping[str, RegistrySettings]) -> dict[str, dict[str, Any]]:
    """What hosts get: what is set, without logins (those go beside it, see `credentials_for`)."""
    return {
        host: {
            item.name: _plain(getattr(settings, item.name))
            for item in fields(settings)
            if item.name not in _LOGIN and getattr(settings, item.name)
        }
        for host, settings in registries.items()
    }


def credentials_for(name: str, known: Mapping[str, Mapping[str, str]]) -> Mapping[str, str] | None:
    """The login for a repository (`host/path`) or registry: the longest name above it that has one.

    So do Podman's files: `quay.io/org` wins over `quay.io` (containers-auth.json(5)).
    """
    host, _, path = name.partition("/")
    parts = path.split("/") if path else []
    for count in range(len(parts), 0, -1):
        entry = known.get("/".join((host, *parts[:count])))
        if entry is not None:
            return entry
    names = DOCKER_HUB if host in DOCKER_HUB else (host, f"https://{host}", f"http://{host}")
    return next((known[one] for one in names if one in known), None)


def _settings(host: str, given: Any) -> RegistrySettings:
    if not isinstance(given, Mapping):
        raise ValueError(f"{host}: it is no map of settings")
    names = [item.name for item in fields(RegistrySettings)]
    for key in given:
        if key not in names:
            raise ValueError(f"{host}: there is no {key!r}; there are {', '.join(names)}")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if value is None:
            continue
        if key == "insecure":
            if not isinstance(value, bool):
                raise ValueError(f"{host}: insecure is true or false")
            values[key] = value
        elif key == "mirrors":
            values[key] = tuple([value] if isinstance(value, str) else map(str, value))
            for mirror in values[key]:
                try:
                    parse_mirror(mirror)
                except ValueError as error:
                    raise ValueError(f"{host}: {error}") from None
        elif not isinstance(value, str):
            raise ValueError(f"{host}: {key} is a string")
        else:
            values[key] = value
    settings = RegistrySettings(**values)
    for key in ("ca", "cert", "key"):
        text = getattr(settings, key)
        if text and not text.startswith("/") and "-----BEGIN " not in text:
            raise ValueError(
                f"{host}: {key} is neither PEM nor the absolute path of a file on the host"
            )
    if bool(settings.cert) != bool(settings.key):
        raise ValueError(f"{host}: cert and key go together")
    return settings


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
