"""Runs on the managed host: kernel parameters that belong to one of the container's namespaces."""

from __future__ import annotations

import os

from ..contract.kernel import IPC_SYSCTLS
from .config import Config, RuntimeFailure
from .namespaces import Namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_UTS = frozenset(("kernel.domainname", "kernel.hostname"))


def prepare(config: Config, namespaces: Namespaces) -> dict[str, str]:
    """Parse `linux.sysctl`: path below /proc/sys -> value. One that would change the host is refused."""
    values = {}
    for name, value in ((config.get("linux") or {}).get("sysctl") or {}).items():
        path = path_of(name)
        kind = namespace_of(path.replace("/", "."))
        if kind is None:
            _refuse(name, "it belongs to the whole host")
        if not namespaces.private(kind):
            _refuse(name, f"the {kind} namespace is the host's")
        field = path.rpartition("/")[2]
        if kind == "uts" and (
            field == "hostname" or config.get(field) not in (None, "", str(value))
        ):
            # crun and runc refuse these as well: the specification has fields of their own for them.
            _refuse(name, f"the host's name is what {field} in config.json says")
        values[path] = str(value)
    return values


def path_of(name: str) -> str:
    """Both spellings of sysctl(8), told by their first separator: in the one with dots `/` is a dot."""
    first = next((letter for letter in name if letter in "./"), "")
    path = name if first == "/" else name.translate({ord("."): "/", ord("/"): "."})
    if not first or any(part in ("", ".", "..") for part in path.split("/")):
        _refuse(name, "it is no name of a parameter")
    return path


def _refuse(name: str, why: str) -> NoReturn:
    raise RuntimeFailure(f"cannot set sysctl {name}: {why}", ref="bad-sysctl")


def namespace_of(name: str) -> str | None:
    """The kind of namespace that a parameter lives in; None for the whole kernel's."""
    if name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "ipc"
    if name.startswith("net."):
        return "network"
    return "uts" if name in _UTS else None


def enter(values: dict[str, str]) -> None:
    """Child, inside its root, before /proc/sys becomes read-only."""
    for name, value in values.items():
        try:
            fd = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise RuntimeFailure(
                f"cannot set sysctl {name} to {value}: {error.strerror}", ref="bad-sysctl"
            ) from error
