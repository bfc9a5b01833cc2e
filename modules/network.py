"""Runs on the managed host: the kind `network`: a bridge with a subnet, isolated from the others."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spec:
    """A network. `name` is the full name (`shop_front`); an empty subnet is chosen on the host."""

    name: str
    driver: str = "bridge"
    internal: bool = False
    external: bool = False
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    state: str = "present"
