"""Runs on the managed host: the container's five capability sets.

A capability that this kernel, or hostctl itself, does not have cannot be given and is left out: inside
another container that is the normal case.
"""

from __future__ import annotations

from . import syscalls
from .config import Config, RuntimeFailure

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
_NUMBER = {name: number for number, name in enumerate(NAMES)}


class Capabilities:
    """The five sets as masks."""

    def __init__(
        self, bounding: int, effective: int, permitted: int, inheritable: int, ambient: int
    ) -> None:
        self.bounding = bounding
        self.effective = effective
        self.permitted = permitted
        self.inheritable = inheritable
        self.ambient = ambient


def prepare(config: Config) -> Capabilities:
    """Parse `process.capabilities`. Without it the process gets none, as the specification says."""
    sets = config["process"].get("capabilities") or {}
    return Capabilities(
        *(
            mask(sets.get(name) or ())
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        )
    )


def mask(names: list[str] | tuple[str, ...]) -> int:
    """Names (`CAP_CHOWN`) as a mask."""
    value = 0
    for name in names:
        if name not in _NUMBER:
            raise RuntimeFailure(f"cannot give {name}: unknown capability", ref="bad-capability")
        value |= 1 << _NUMBER[name]
    return value


def enter_bounding(capabilities: Capabilities) -> None:
    """Child, before it changes its user: needs SETPCAP. Capabilities are to survive the change."""
    for number in range(64):
        try:
            present = syscalls.prctl(syscalls.PR_CAPBSET_READ, number)
        except OSError:  # EINVAL: the kernel's last capability was the one before
            break
        if present and not capabilities.bounding >> number & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)


def enter(capabilities: Capabilities) -> None:
    """Child, after it changed its user: the last privileged step before exec."""
    _, held, _ = syscalls.capget()
    permitted = capabilities.permitted & held
    # The inheritable set is bounded by what is in the bounding set or already inheritable.
    inheritable = capabilities.inheritable & held
    syscalls.capset(capabilities.effective & permitted, permitted, inheritable)
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(64):
        if capabilities.ambient & permitted & inheritable & 1 << number:
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 0)
