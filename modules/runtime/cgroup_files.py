"""Runs on the managed host: how files of a cgroup are written and read, whichever version they are of."""

from __future__ import annotations

import errno
import os

from .config import RuntimeFailure
from .reading import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Setting = tuple[str, str, str]
"""(folder, file, value)."""

UNLIMITED = (1 << 63) - 1
# Version 1 rounds "no limit" down to whole pages: nothing real comes near it.
_NEARLY_UNLIMITED = 1 << 62
_ENOTSUPP = 524  # the kernel's own, without a name for programs

# Files that another one stands in for where they are missing. A value may have to be converted.
_ALIASES = {
    "blkio.weight": "blkio.bfq.weight",
    "blkio.weight_device": "blkio.bfq.weight_device",
    "io.bfq.weight": "io.weight",
}
# Accounting that a kernel may be built or started without; what else is limited still holds.
_OPTIONAL = frozenset(
    ("memory.memsw.limit_in_bytes", "memory.swap.max", "blkio.leaf_weight_device")
)


def write(path: str, value: str) -> None:
    """Write the value in one go; the error names the file."""
    write_each(path, (value,))


def write_each(path: str, values: Iterable[str]) -> None:
    """Write the values, each in one go of its own, and open the file once; the error names it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for value in values:
            os.write(fd, value.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def write_all(settings: list[Setting]) -> None:
    """Write them in order; one that contradicts another that comes later is tried again after that.

    A memory limit is bounded by the one with swap, a quota's burst by the quota, real time by its
    period: which of two has to come first depends on what the kernel holds now.
    """
    again = []
    for setting in settings:
        try:
            _write_setting(setting)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise refused(setting, error) from error
            again.append(setting)
    for setting in again:
        try:
            _write_setting(setting)
        except OSError as error:
            raise refused(setting, error) from error


def _write_setting(setting: Setting) -> None:
    folder, file, value = setting
    try:
        write(os.path.join(folder, file), value)
    except FileNotFoundError:
        if file in _ALIASES:
            alias = _ALIASES[file]
            write(os.path.join(folder, alias), _converted(value) if alias == "io.weight" else value)
        elif file not in _OPTIONAL and ".rsvd." not in file:
            raise
    except OSError as error:
        # Kernel memory is no longer limited on its own: "no limit" is what it has anyway.
        if not (".kmem." in file and value == "-1" and error.errno in (_ENOTSUPP, errno.ENOTSUP)):
            raise


def _converted(value: str) -> str:
    """`[DEVICE ]WEIGHT`, 10 to 1000 as version 1 and BFQ have it, for io.weight: 1 to 10000."""
    *device, weight = value.split()
    return " ".join([*device, str(1 + (max(10, int(weight)) - 10) * 9999 // 990)])


def refused(setting: Setting, error: OSError) -> RuntimeFailure:
    """The kernel's no to one value, with what it may mean."""
    folder, file, value = setting
    message = f"cannot set {file} to {value}: "
    if error.errno == errno.EBUSY and file.startswith("memory."):
        used = read_number(os.path.join(folder, "memory.usage_in_bytes"))
        return RuntimeFailure(
            f"{message}{used} bytes are in use",
            hint="choose a higher limit, or stop the container and set it then",
            ref="limit-below-usage",
        )
    hints = {
        "cpu.rt_runtime_us": "each cgroup above needs a cpu.rt_runtime_us at least as large",
        "cpuset.cpus": "name only CPUs that the cgroup above has: see cpuset.cpus there",
        "cpuset.mems": "name only memory nodes that the cgroup above has: see cpuset.mems there",
    }
    return RuntimeFailure(
        f"{message}{os.strerror(error.errno or 0)}",
        where=folder,
        hint=hints.get(file, ""),
        ref="no-controller" if error.errno == errno.ENOENT else "limit-refused",
    )


def read(path: str) -> str:
    """The file's text; empty where it is missing or its controller is off."""
    try:
        return content(path).decode("ascii")
    except OSError:
        return ""


def read_number(path: str) -> int:
    """The number in a file; UNLIMITED for `max` and what stands for it, 0 where it is missing."""
    text = read(path).strip()
    if text == "max":
        return UNLIMITED
    value = int(text) if text.lstrip("-").isdigit() else 0
    return UNLIMITED if value >= _NEARLY_UNLIMITED else value


def read_pairs(path: str) -> dict[str, int]:
    """A file of `NAME NUMBER` lines; what is none is left out."""
    return {name: int(value) for name, value in _pairs(path)}


def _pairs(path: str) -> Iterator[tuple[str, str]]:
    for line in read(path).splitlines():
        name, _, value = line.partition(" ")
        if value.lstrip("-").isdigit():
            yield name, value


def counter(path: str) -> int:
    """The number after `oom_kill` in a file of the memory controller; 0 where there is none."""
    return read_pairs(path).get("oom_kill", 0)
