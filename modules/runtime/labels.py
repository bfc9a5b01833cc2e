"""Runs on the managed host: the program's AppArmor profile or SELinux label, and the label of its mounts.

A kernel without the module cannot do what is asked for, and that is an error: a container that its
author thinks confined would not be. Source: OCI runtime-spec 1.2 (config.md, config-linux.md),
apparmor(7), the kernel's LSM/apparmor.rst, setexeccon(3).
"""

from __future__ import annotations

import os

from .cgroup_files import read, write
from .config import Config, RuntimeFailure, section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .mount_options import Mount

UNCONFINED = "unconfined"
# Their contents are the kernel's own: it has no label for them to be given.
_UNLABELLED = frozenset(("proc", "sysfs", "cgroup", "cgroup2", "mqueue"))


class Labels:
    """What is written for the next exec, each with the files that may take it, first to be tried first."""

    def __init__(self, apparmor: str, selinux: str) -> None:
        self.writes: list[tuple[str, tuple[str, ...]]] = []
        if apparmor:
            files = ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec")
            self.writes.append((f"exec {apparmor}", files))
        if selinux:
            self.writes.append((selinux, ("/proc/self/attr/exec",)))

    def enter(self) -> None:
        """Child, while it sees the host's /proc: an image's could be anything. Nothing is executed before."""
        for value, files in self.writes:
            _write_first(value, files)


def prepare(config: Config) -> Labels | None:
    """Parse `process.apparmorProfile` and `process.selinuxLabel`; None without either."""
    apparmor = str(section(config, "process", "apparmorProfile") or "")
    selinux = str(section(config, "process", "selinuxLabel") or "")
    if apparmor == UNCONFINED and not has_apparmor():
        apparmor = ""
    if apparmor and not has_apparmor():
        _missing(f"AppArmor profile {apparmor}", "AppArmor")
    if selinux and not has_selinux():
        _missing(f"SELinux label {selinux}", "SELinux")
    return Labels(apparmor, selinux) if apparmor or selinux else None


def has_apparmor() -> bool:
    """Whether this kernel runs with AppArmor."""
    return read("/sys/module/apparmor/parameters/enabled").startswith("Y")


def has_selinux() -> bool:
    """Whether this kernel runs with SELinux and a policy."""
    return os.path.exists("/sys/fs/selinux/enforce")


def label_mounts(config: Config, mounts: list[Mount]) -> None:
    """Add `linux.mountLabel` to the options of all file systems that are made for the container."""
    label = str(section(config, "linux", "mountLabel") or "")
    if not label:
        return
    if not has_selinux():
        _missing(f"mount label {label}", "SELinux")
    for mount in mounts:
        if not mount.bind and mount.fstype not in _UNLABELLED:
            mount.data = with_context(mount.data, label)


def with_context(data: str, label: str) -> str:
    """Mount data with the label. Quoted: a label has commas of its own."""
    return ",".join(part for part in (data, f'context="{label}"') if part)


def _missing(what: str, module: str) -> None:
    raise RuntimeFailure(
        f"cannot use {what}: this kernel does not run with {module}",
        hint=f"remove it, or start the kernel with security={module.lower()}",
        ref=f"no-{module.lower()}",
    )


def _write_first(value: str, files: tuple[str, ...]) -> None:
    for path in files:
        try:
            write(path, value)
            return
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RuntimeFailure(
                f"cannot take label {value}: {os.strerror(error.errno or 0)}",
                hint="load the profile on the host first, as with apparmor_parser",
                ref="bad-label",
            ) from error
    raise RuntimeFailure(f"cannot take label {value}: there is no {files[-1]}", ref="bad-label")
