"""Runs in both worlds: the ports of EXPOSE."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import DockerfileError

_PORT = re.compile(
    r"(?:(?:(?P<ip>\[[^\]]*\]|[^:/\[\]]*):)?(?P<host>\d{0,5}(?:-\d{1,5})?):)?"
    r"(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?(?:/(?P<protocol>\w+))?"
)
PROTOCOLS = ("tcp", "udp", "sctp")


def has_host(port: str) -> bool:
    """An address or a port of the host is in it, which says nothing in an image."""
    match = _PORT.fullmatch(port)
    return match is not None and match["host"] is not None


def exposed_ports(ports: Iterable[str]) -> tuple[str, ...]:
    """The image config's `ExposedPorts`: `80/tcp`, one for each port of a range, sorted.

    Args:
        ports: as written, variables replaced.
    Raises:
        DockerfileError: one is no port.
    """
    found = set()
    for port in ports:
        first, last, protocol = _read(port)
        found |= {(number, protocol) for number in range(first, last + 1)}
    return tuple(f"{number}/{protocol}" for number, protocol in sorted(found))


def check_ports(ports: Iterable[str]) -> None:
    """Raises DockerfileError where one is no port."""
    for port in ports:
        _read(port)


def _read(port: str) -> tuple[int, int, str]:
    match = _PORT.fullmatch(port)
    if not match or not match.string.isascii():
        cause = "a comment needs a line of its own" if port.startswith("#") else "it is no port"
        raise _error(port, cause)
    first = int(match["first"])
    last = int(match["last"] or first)
    protocol = (match["protocol"] or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise _error(port, f"there is no protocol {protocol}, but {', '.join(PROTOCOLS)}")
    if not 0 <= first <= last <= 65535:
        raise _error(port, "a port is a number up to 65535, a range begins with the lower one")
    return first, last, protocol


def _error(port: str, cause: str) -> DockerfileError:
    return DockerfileError(
        f"cannot expose {port[:40]!r}: {cause}",
        hint="write EXPOSE 8080, 8080/udp or 8000-8010",
        ref="dockerfile-port",
    )
