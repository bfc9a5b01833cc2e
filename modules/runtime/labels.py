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
ENABLED = "/sys/module/apparmor/parameters/enabled"
_APPARMOR = "/proc/self/attr/apparmor"
_ATTRIBUTES = "/proc/self/attr"  # before Linux 5.1 the only ones
# Their contents are the kernel's own: it has no label for them to be given.
_UNLABELLED = frozenset(("proc", "sysfs", "cgroup", "cgroup2", "mqueue"))


class Labels:
    """What is written for the next exec, each with the files that may take it, first to be tried first."""

    def __init__(self, apparmor: str, selinux: str) -> None:
        self.writes: list[tuple[str, tuple[str, ...]]] = []
        self._apparmor = apparmor
        self._own = -1
        if apparmor:
            files = (f"{_APPARMOR}/exec", f"{_ATTRIBUTES}/exec")
            self.writes.append((f"exec {apparmor}", files))
        if selinux:
            self.writes.append((selinux, (f"{_ATTRIBUTES}/exec",)))

    def enter(self) -> None:
        """Child, while it sees the host's /proc: an image's could be anything. Nothing is executed before."""
        for value, files in self.writes:
            _write_first(value, files)

    def enter_staying(self) -> None:
        """Child that will execute nothing (`init: true`), likewise: opens what `confine` writes to."""
        if self._apparmor:
            folder = _APPARMOR if os.path.isdir(_APPARMOR) else _ATTRIBUTES
            self._own = os.open(f"{folder}/current", os.O_WRONLY | os.O_CLOEXEC)

    def filenos(self) -> tuple[int, ...]:
        """What has to stay open until then."""
        return (self._own,) if self._own >= 0 else ()

    def confine(self) -> None:
        """The same child, last: from now on it has the profile, as what it has forked gets it by executing."""
        if self._own < 0:
            return
        try:
            os.write(self._own, f"changeprofile {self._apparmor}".encode())
        except OSError as error:
            raise _refused(self._apparmor, error) from error
        finally:
            os.close(self._own)
            self._own = -1


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
    return read(ENABLED).startswith("Y")


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


def _refused(value: str, error: OSError) -> RuntimeFailure:
    return RuntimeFailure(
        f"cannot take label {value}: {os.strerror(error.errno or 0)}",
        hint="load the profile on the host first, as with apparmor_parser",
        ref="bad-label",
    )


def _write_first(value: str, files: tuple[str, ...]) -> None:
    for path in files:
        try:
            write(path, value)
            return
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _refused(value, error) from error
    raise RuntimeFailure(f"cannot take label {value}: there is no {files[-1]}", ref="bad-label")
