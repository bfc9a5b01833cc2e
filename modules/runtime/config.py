"""Runs on the managed host: reads an OCI bundle's config.json; what every facility's `prepare` takes.

The OCI document stays a dictionary here because it is a published schema; each facility's `prepare` is
the border where its part becomes typed values, and where what is not supported is refused.
"""

from __future__ import annotations

import os

from ..contract import plainjson
from ..contract.errors import HostctlError
from .reading import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Config = dict[str, "Any"]

# Annotations of hostctl's own bundles. A plain OCI bundle has none of them.
OVERLAY = "hostctl.overlay"
"""JSON: {"cwd": folder of the short links, "lower": [short names, top first], "upper", "work"}."""
FILL = "hostctl.fill"
"""JSON: mount target -> [folder on the host, marker], of volumes that take the image's content while empty."""
FILES = "hostctl.files"
"""JSON: [{"name", "source", "target", "uid", "gid", "mode"}], of secrets and configs."""
STORAGE = "hostctl.storage"
"""JSON: mount target -> {"name", "type", "device", "options"} of a file system, or {"subpath"}."""
PEERS = "hostctl.peers"
"""JSON: kind of namespace -> name of the container whose it is; lowered to paths before the start."""
USER = "hostctl.user"
"""`user[:group]`, names or numbers, looked up in the container's own files; beats process.user."""
APPARMOR = "hostctl.apparmor"
"""`default`: it has hostctl's own profile where the host can do that (`runtime/apparmor.py`)."""
INIT = "hostctl.init"
"""`true`: process 1 of the container is a small init that reaps and forwards signals."""
RUNTIME = "hostctl.runtime"
"""Name of the runtime of the host that makes the container in our place (`runtime/stand_in.py`)."""


class RuntimeFailure(HostctlError):
    """A container could not be made; `code` is what `docker run` would exit with (125, 126, 127)."""

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        hint: str = "",
        ref: str = "runtime",
        code: int = 125,
    ) -> None:
        super().__init__(message, where=where, hint=hint, ref=ref)
        self.code = code


def load(bundle: str, name: str = "config.json") -> Config:
    """The parsed config.json of the bundle folder, or the file that stands for it."""
    path = os.path.join(bundle, name)
    try:
        config = plainjson.loads(content(path))
    except FileNotFoundError as error:
        raise RuntimeFailure(
            f"cannot read the bundle: there is no {path}", ref="bundle-missing"
        ) from error
    except ValueError as error:
        raise RuntimeFailure(f"cannot read {path}: {error}", ref="bundle-broken") from error
    if not isinstance(config, dict) or not isinstance(config.get("process"), dict):
        raise RuntimeFailure(f"cannot read {path}: it has no process", ref="bundle-broken")
    return config


def annotation(config: Config, name: str) -> str:
    """One annotation, empty where there is none."""
    return str((config.get("annotations") or {}).get(name, ""))


def section(config: Config, *path: str) -> Any:
    """The value at the path of keys, or None."""
    value: Any = config
    for key in path:
        value = (value or {}).get(key)
    return value


def refuse(config: Config) -> None:
    """Raise for what config.json may hold and this runtime does not do yet: nothing is ignored."""
    unsupported = {
        "linux.intelRdt": section(config, "linux", "intelRdt"),
        "linux.netDevices": section(config, "linux", "netDevices"),
    }
    for name, value in unsupported.items():
        if value:
            raise RuntimeFailure(
                f"cannot create the container: {name} is not supported yet", ref="not-supported"
            )
