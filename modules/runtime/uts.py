"""Runs on the managed host: host name and domain name of the container."""

from __future__ import annotations

import _socket as socket

from . import syscalls
from .config import Config, RuntimeFailure
from .namespaces import Namespaces

_LONGEST = 64
"""Bytes that Linux takes (uname(2))."""


class Uts:
    """The names to set; empty for none."""

    def __init__(self, hostname: str, domainname: str) -> None:
        self.hostname = hostname
        self.domainname = domainname


def prepare(config: Config, namespaces: Namespaces) -> Uts:
    """Names need a UTS namespace of their own: otherwise they would be the host's."""
    uts = Uts(str(config.get("hostname") or ""), str(config.get("domainname") or ""))
    if (uts.hostname or uts.domainname) and not namespaces.private("uts"):
        raise RuntimeFailure(
            "cannot set the host name: the container shares the host's UTS namespace",
            hint="remove hostname, or give the container its own UTS namespace",
            ref="shared-namespace",
        )
    for name in (uts.hostname, uts.domainname):
        if len(name.encode()) > _LONGEST:
            raise RuntimeFailure(
                f"cannot set the name {name}: it is longer than {_LONGEST} bytes",
                hint="give the container a shorter hostname or domainname",
                ref="long-hostname",
            )
    return uts


def enter(uts: Uts) -> None:
    """Child, inside the UTS namespace."""
    if uts.hostname:
        socket.sethostname(uts.hostname)
    if uts.domainname:
        syscalls.setdomainname(uts.domainname)
