"""Runs on the managed host: kernel parameters that belong to one of the container's namespaces."""

from __future__ import annotations

import os

from .config import Config, RuntimeFailure
from .namespaces import Namespaces

_IPC = frozenset(
    (
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    )
)
_UTS = frozenset(("kernel.domainname", "kernel.hostname"))


def prepare(config: Config, namespaces: Namespaces) -> dict[str, str]:
    """Parse `linux.sysctl`; one that would change the host is refused."""
    values = {}
    for name, value in ((config.get("linux") or {}).get("sysctl") or {}).items():
        dotted = name.replace("/", ".") if "." not in name.split("/", 1)[0] else name
        kind = namespace_of(dotted)
        if kind is None or not namespaces.private(kind):
            why = (
                "it belongs to the host" if kind is None else f"the {kind} namespace is the host's"
            )
            raise RuntimeFailure(f"cannot set sysctl {name}: {why}", ref="bad-sysctl")
        values[dotted] = str(value)
    return values


def namespace_of(name: str) -> str | None:
    """The kind of namespace that a parameter lives in; None for the whole kernel's."""
    if name in _IPC or name.startswith("fs.mqueue."):
        return "ipc"
    if name.startswith("net."):
        return "network"
    return "uts" if name in _UTS else None


def enter(values: dict[str, str]) -> None:
    """Child, inside its root, before /proc/sys becomes read-only."""
    for name, value in values.items():
        path = "/proc/sys/" + name.replace(".", "/")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise RuntimeFailure(
                f"cannot set sysctl {name} to {value}: {error.strerror}", ref="bad-sysctl"
            ) from error
