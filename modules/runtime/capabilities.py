"""Runs on the managed host: the container's five capability sets.

A capability that this kernel, or hostctl itself, does not have cannot be given and is left out: inside
another container that is the normal case.
"""

from __future__ import annotations

import errno

from ..contract.kernel import CAPABILITY_NAMES
from . import syscalls
from .config import Config

_NUMBER = {name: number for number, name in enumerate(CAPABILITY_NAMES)}


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
    """Names (`CAP_CHOWN`) as a mask. One that Linux does not have is left out: see `warnings`."""
    value = 0
    for name in names:
        if name in _NUMBER:
            value |= 1 << _NUMBER[name]
    return value


def warnings(config: Config) -> list[str]:
    """What of `process.capabilities` cannot be given here: the specification wants it said, not refused."""
    sets = config["process"].get("capabilities") or {}
    names = sorted({str(name) for listed in sets.values() for name in listed or ()})
    _, permitted, _ = syscalls.capget()
    unknown = [f"cannot give {name}: unknown capability" for name in names if name not in _NUMBER]
    lacking = [
        f"cannot give {name}: the runtime itself does not have it"
        for name in names
        if name in _NUMBER and not permitted >> _NUMBER[name] & 1
    ]
    return unknown + lacking


def enter_bounding(capabilities: Capabilities) -> None:
    """Child, before it changes its user: needs SETPCAP. Capabilities are to survive the change."""
    for number in range(64):
        if not capabilities.bounding >> number & 1:
            try:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break  # the kernel's last capability was before this one
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
