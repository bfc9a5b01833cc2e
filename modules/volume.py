"""Runs on the managed host: the kind `volume`: a named folder that outlives containers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spec:
    """A volume. `name` is the full name (`shop_data`)."""

    name: str
    driver: str = "local"
    external: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    state: str = "present"
