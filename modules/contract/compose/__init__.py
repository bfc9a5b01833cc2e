"""Runs in both worlds: Compose's short forms of a container's keys, as markers in its spec's annotations.

Each `parse_*` takes what people write in a service and returns the long form; the long form passes
through. `FieldError.path` says which part of the value is meant.
"""

from __future__ import annotations

from .files import CONFIGS, SECRETS
from .health import HEALTHCHECK
from .isolation import (
    ANNOTATIONS,
    CAPABILITIES,
    DEVICE_PATH,
    DEVICE_RULES,
    DEVICES,
    HOST_ONLY,
    IPC,
    PID,
    RUNTIME,
    SECURITY_OPT,
    SYSCTLS,
    USERNS,
)
from .lifecycle import DEPENDS_ON, LOGGING, PLATFORM, RESTART, RESTART_ON, SIGNAL
from .limits import CPUS, CPUSET, MICROSECONDS, SWAP, ULIMITS
from .mounts import DRIVER_OPTS, TMPFS, VOLUMES, VOLUMES_FROM
from .network import EXTRA_HOSTS, NETWORK_MODE, NETWORKS
from .ports import PORTS
from .values import COMMAND, ENVIRONMENT, LABELS, WORDS

__all__ = [
    "ANNOTATIONS",
    "CAPABILITIES",
    "COMMAND",
    "CONFIGS",
    "CPUS",
    "CPUSET",
    "DEPENDS_ON",
    "DEVICES",
    "DEVICE_PATH",
    "DEVICE_RULES",
    "DRIVER_OPTS",
    "ENVIRONMENT",
    "EXTRA_HOSTS",
    "HEALTHCHECK",
    "HOST_ONLY",
    "IPC",
    "LABELS",
    "LOGGING",
    "MICROSECONDS",
    "NETWORKS",
    "NETWORK_MODE",
    "PID",
    "PLATFORM",
    "PORTS",
    "RESTART",
    "RESTART_ON",
    "RUNTIME",
    "SECRETS",
    "SECURITY_OPT",
    "SIGNAL",
    "SWAP",
    "SYSCTLS",
    "TMPFS",
    "ULIMITS",
    "USERNS",
    "VOLUMES",
    "VOLUMES_FROM",
    "WORDS",
]
