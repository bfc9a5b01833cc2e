"""Runs in both worlds: the parts of a container's spec that have keys of their own.

Each is a dataclass of the spec; what people write is lowered to it by the markers in `contract/compose`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from .compose import COMMAND, DEVICE_PATH, ENVIRONMENT
from .fields import DURATION, SIZE, FieldError


@dataclass(frozen=True)
class HttpProbe:
    """Healthy is an answer on `port` of the container's own network whose status is in `status`.

    Attributes:
        status: `200`, or a range such as `200-399`.
    """

    port: int
    path: str = "/"
    status: str = "200-399"

    def __post_init__(self) -> None:
        _check_port(self.port)
        if not re.fullmatch(r"/[^\s\x00-\x20\x7f]*", self.path):
            raise FieldError(f"{self.path!r} is no path of a URL; it starts with /", "path")
        found = re.fullmatch(r"([1-5]\d\d)(?:-([1-5]\d\d))?", self.status)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise FieldError(
                f"{self.status!r} is no status; write 200, or a range such as 200-399", "status"
            )


@dataclass(frozen=True)
class TcpProbe:
    """Healthy is a connection that `port` of the container accepts."""

    port: int

    def __post_init__(self) -> None:
        _check_port(self.port)


def _check_port(port: int) -> None:
    if not 0 < port <= 65535:
        raise FieldError(f"{port} is no port; 1 to 65535", "port")


@dataclass(frozen=True)
class Healthcheck:
    """How to tell whether the container works. What is left out (0, empty) is the image's, or the default.

    Attributes:
        test: `("CMD", PROGRAM, ...)`, `("CMD-SHELL", LINE)` or `("NONE",)`.
        http, tcp: probes that need nothing in the image, in the place of `test`.
        interval, timeout, start_period, start_interval: seconds.
        retries: failures in a row that make it unhealthy.
    """

    test: tuple[str, ...] = ()
    http: HttpProbe | None = None
    tcp: TcpProbe | None = None
    interval: Annotated[float, DURATION] = 0.0
    timeout: Annotated[float, DURATION] = 0.0
    retries: int = 0
    start_period: Annotated[float, DURATION] = 0.0
    start_interval: Annotated[float, DURATION] = 0.0

    def __post_init__(self) -> None:
        if bool(self.test) + (self.http is not None) + (self.tcp is not None) > 1:
            raise FieldError("write one of test, http and tcp")
        for name in ("interval", "timeout", "start_period", "start_interval"):
            seconds = getattr(self, name)
            if seconds < 0 or 0 < seconds < 0.001:
                raise FieldError("the shortest time is 1ms", name)
        if self.retries < 0:
            raise FieldError("write a number of failures in a row, at least 1", "retries")


@dataclass(frozen=True)
class Logging:
    """Where the output goes.

    Attributes:
        driver: json-file, journald or none.
        max_size: bytes after which the file is rotated; 0 is never.
        max_file: files that are kept, the open one included.
        compress: rotated files are packed with gzip.
        tag: what the entries in the journal are called (CONTAINER_TAG); empty: the first digits of the
            container's id.
    """

    driver: str = "json-file"
    max_size: int = 10 << 20
    max_file: int = 3
    compress: bool = True
    tag: str = ""


@dataclass(frozen=True)
class Hook:
    """One program that is run in the container after its start, or before its stop."""

    command: Annotated[tuple[str, ...], COMMAND]
    user: str = ""
    privileged: bool = False
    working_dir: str = ""
    environment: Annotated[dict[str, str], ENVIRONMENT] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise FieldError("there is nothing to run", "command")
        if self.working_dir and not self.working_dir.startswith("/"):
            raise FieldError("the path in the container must start with /", "working_dir")


@dataclass(frozen=True)
class Dependency:
    """What is waited for before the container is started.

    Attributes:
        condition: service_started, service_healthy or service_completed_successfully.
        restart: it is restarted when the other one is replaced or changed.
        required: without it, a failure of the other one is only said.
    """

    condition: str = "service_started"
    restart: bool = False
    required: bool = True


@dataclass(frozen=True)
class Device:
    """A device of the host in the container; `source` may be a folder with devices.

    Attributes:
        permissions: letters of r (read), w (write) and m (make a node).
    """

    source: Annotated[str, DEVICE_PATH]
    target: Annotated[str, DEVICE_PATH]
    permissions: str = "rwm"

    def __post_init__(self) -> None:
        letters = set(self.permissions)
        if not letters or not letters <= set("rwm") or len(letters) < len(self.permissions):
            raise FieldError(
                f"{self.permissions!r} are no permissions; letters of r, w and m", "permissions"
            )


@dataclass(frozen=True)
class DeviceWeight:
    """The share of one disk's time, 10 to 1000."""

    path: Annotated[str, DEVICE_PATH]
    weight: int

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True)
class DeviceRate:
    """The most that may go through one disk: bytes or operations a second."""

    path: Annotated[str, DEVICE_PATH]
    rate: Annotated[int, SIZE]

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise FieldError("a rate is at least 1 a second", "rate")


@dataclass(frozen=True)
class BlkioConfig:
    """The container's share of the host's disks. `weight` 0 is the kernel's own, 500."""

    weight: int = 0
    weight_device: tuple[DeviceWeight, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()

    def __post_init__(self) -> None:
        if self.weight:
            _check_weight(self.weight)


def _check_weight(weight: int) -> None:
    if not 10 <= weight <= 1000:
        raise FieldError("a weight is a number from 10 to 1000", "weight")
