"""Runs on the managed host: the kind `container`: one container of one service.

The spec uses Compose's key names. What the controller sends is lowered: full names, replicas expanded,
short forms parsed, `deploy` folded into the plain limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from .contract.fields import DURATION, SIZE


@dataclass(frozen=True)
class Port:
    """One published port. `host_ip` empty is every address; `published` 0 is a free port of the host."""

    target: int
    published: int = 0
    host_ip: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True)
class Mount:
    """One mount. `type` is volume, bind or tmpfs; an anonymous volume has no source."""

    target: str
    type: str = "volume"
    source: str = ""
    read_only: bool = False
    tmpfs_size: int = 0
    tmpfs_mode: int = 0o1777


@dataclass(frozen=True)
class Attachment:
    """The container on one network: further names there, and an address of its own if wanted."""

    network: str
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""


@dataclass(frozen=True)
class Ulimit:
    """One resource limit; -1 is unlimited."""

    soft: int
    hard: int


@dataclass(frozen=True)
class Spec:
    """What a container should be. None means "as the image says"; an empty tuple clears it.

    `name`, `service` and `number` are set by the controller for entries of `containers:`.
    """

    name: str
    image: str
    service: str = ""
    number: int = 1
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    ports: tuple[Port, ...] = ()
    volumes: tuple[Mount, ...] = ()
    networks: tuple[Attachment, ...] = ()
    network_mode: str = ""
    hostname: str = ""
    restart: str = "no"
    init: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    mem_limit: Annotated[int, SIZE] = 0
    cpus: float = 0.0
    pids_limit: int = 0
    ulimits: dict[str, Ulimit] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_grace_period: Annotated[float, DURATION] = 10.0
    extra_hosts: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    depends_on: dict[str, Any] = field(default_factory=dict)
    deploy: dict[str, Any] = field(default_factory=dict)
    state: str = "started"
