"""Runs on the controller: host ports: one of a range for each replica, and none used twice on a host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..playbook.errors import Collector

if TYPE_CHECKING:
    from .services import Service

_ANY = ("", "0.0.0.0", "::")


def choose_ports(ports: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    """The ports of the replica with this number (from 1): of a range it takes the port at its place."""
    return tuple(
        replace(port, published=port.published + number - 1, published_end=0)
        if port.published_end
        else port
        for port in ports
    )


def check_ports(services: list[Service], project: str, errors: Collector) -> None:
    """Report host ports that two containers of the play would both take."""
    taken: list[tuple[Any, str, str]] = []
    for service in services:
        replicas = service.deploy.replicas
        for index, port in enumerate(service.spec.ports):
            place = service.at("ports", min(index, _written(service) - 1))
            if not port.published or not replicas:
                continue
            room = port.published_end - port.published + 1 if port.published_end else 1
            if replicas > room:
                errors.add(
                    f"cannot publish port {port.published} of {replicas} replicas of {service.key}: "
                    f"{'the range has only ' + str(room) + ' ports' if room > 1 else 'only one of them can have it'}",
                    where=place,
                    hint=f'write a range such as "{port.published}-{port.published + replicas - 1}:{port.target}", '
                    f'or "{port.target}" for free ports',
                    ref="port-replicas",
                )
                continue
            for number, name in enumerate(service.names(project), 1):
                mine = choose_ports((port,), number)[0]
                for other, other_name, other_place in taken:
                    if _clash(mine, other):
                        errors.add(
                            f"cannot publish port {mine.published}/{mine.protocol} twice: "
                            f"{other_name} ({other_place}) and {name} both take it",
                            where=place,
                            ref="port-twice",
                        )
                taken.append((mine, name, place.position))


def _written(service: Service) -> int:
    ports = service.raw.get("ports") if isinstance(service.raw, dict) else None
    return len(ports) if isinstance(ports, list) else 1


def _clash(one: Any, other: Any) -> bool:
    same = (one.protocol, one.published) == (other.protocol, other.published)
    return same and (one.host_ip == other.host_ip or one.host_ip in _ANY or other.host_ip in _ANY)
