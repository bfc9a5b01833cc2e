"""Runs in both worlds: what keys of a container cannot be together, or alone, whatever the host.

Each raises FieldError with the key's path; the controller adds file and line. What is refused here would
be refused by the kernel, or end the first process before its program runs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .fields import FieldError, check_name
from .storage import check_storage
from .users import check_users

if TYPE_CHECKING:
    from ..container import Spec

_HOSTNAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
_DOMAIN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")
_LEAST_MEMORY = 6 << 20
_MOST_PROCESSES = 1 << 22
"""The kernel's PID_MAX_LIMIT, beyond which pids.max takes nothing."""
_MOST_CPUS = 8192
_MOST_QUOTA = (1 << 44) - 1
"""The kernel's MAX_BW, beyond which cpu.max takes nothing."""
_MOST_RLIMIT = (1 << 63) - 1


def check(spec: Spec) -> None:
    """Everything below. Of what is to go its name alone: a rule of a later version must not keep it."""
    if spec.state == "absent":
        check_name(spec.name, "name")
        return
    check_names(spec)
    check_program(spec)
    check_memory(spec)
    check_cpus(spec)
    check_limits(spec)
    check_namespaces(spec)
    check_users(spec)
    check_storage(spec)


def check_names(spec: Spec) -> None:
    """Names become folders and mount points of the host."""
    check_name(spec.name, "name")
    if spec.hostname and not _HOSTNAME.fullmatch(spec.hostname):
        raise FieldError(
            f"{spec.hostname!r} is no name of a host; letters, digits, dots and dashes, at most 63",
            "hostname",
        )
    if spec.domainname and not _DOMAIN.fullmatch(spec.domainname):
        raise FieldError(f"{spec.domainname!r} is no name of a domain", "domainname")
    if spec.working_dir and not spec.working_dir.startswith("/"):
        raise FieldError(
            f"{spec.working_dir!r} is not absolute; a path in the container starts with /",
            "working_dir",
        )
    for index, attachment in enumerate(spec.networks):
        check_name(attachment.network, "networks", index)
    for index, group in enumerate(spec.group_add):
        if not re.fullmatch(r"[^\s:,\x00-\x1f\x7f]+", group):
            raise FieldError(f"{group!r} is no group", "group_add", index)
    parent = spec.cgroup_parent
    if parent and not re.fullmatch(r"/?[\w@.:-]+(/[\w@.:-]+)*", parent):
        raise FieldError(f"{parent!r} is no path of a cgroup", "cgroup_parent")
    if {".", ".."} & set(parent.split("/")):
        raise FieldError(f"{parent!r} leaves the place of containers", "cgroup_parent")


def check_program(spec: Spec) -> None:
    """What execve(2) takes: texts that end at a null byte."""
    for key in ("entrypoint", "command"):
        for index, word in enumerate(getattr(spec, key) or ()):
            if "\0" in word:
                raise FieldError("a null byte ends an argument: none can be in it", key, index)
    for name, value in spec.environment.items():
        if "\0" in value:
            raise FieldError("a null byte ends a variable: none can be in it", "environment", name)


def check_memory(spec: Spec) -> None:
    limit = spec.mem_limit
    if limit and limit < _LEAST_MEMORY:
        raise FieldError("a container needs at least 6m of memory", "mem_limit")
    if spec.mem_reservation and spec.mem_reservation < _LEAST_MEMORY:
        raise FieldError("a container needs at least 6m of memory", "mem_reservation")
    if limit and spec.mem_reservation > limit:
        raise FieldError("it is more than mem_limit", "mem_reservation")
    if spec.memswap_limit and not limit:
        raise FieldError("it counts memory and swap together: set mem_limit, too", "memswap_limit")
    if spec.memswap_limit != -1 and 0 != spec.memswap_limit < limit:
        raise FieldError(
            "it counts memory and swap together: at least mem_limit, or -1 for no limit",
            "memswap_limit",
        )
    if spec.mem_swappiness is not None and not 0 <= spec.mem_swappiness <= 100:
        raise FieldError("write a number from 0 to 100", "mem_swappiness")
    if spec.shm_size < 0:
        raise FieldError("write a size, such as 64m", "shm_size")
    if spec.oom_kill_disable and not limit:
        raise FieldError(
            "without mem_limit the host itself would run out of memory", "oom_kill_disable"
        )


def check_cpus(spec: Spec) -> None:
    if spec.cpus and not spec.cpus >= 0.01:
        raise FieldError("a container needs at least 0.01 of a CPU", "cpus")
    if spec.cpus > _MOST_CPUS:
        raise FieldError(f"at most {_MOST_CPUS} CPUs, which is what a kernel can have", "cpus")
    for key in ("cpu_quota", "cpu_period"):
        if spec.cpus and getattr(spec, key):
            raise FieldError("cpus says the same: write one of them", key)
    if spec.cpu_period and not 1000 <= spec.cpu_period <= 1_000_000:
        raise FieldError("write 1000 to 1000000 microseconds, or 1ms to 1s", "cpu_period")
    if spec.cpu_quota not in (0, -1) and spec.cpu_quota < 1000:
        raise FieldError("write at least 1000 microseconds (1ms), or -1 for no limit", "cpu_quota")
    if spec.cpu_quota > _MOST_QUOTA:
        raise FieldError(f"at most {_MOST_QUOTA} microseconds, or -1 for no limit", "cpu_quota")
    if spec.cpu_shares and not 2 <= spec.cpu_shares <= 262144:
        raise FieldError("write a number from 2 to 262144; 1024 is one share", "cpu_shares")


def check_limits(spec: Spec) -> None:
    if not -1 <= spec.pids_limit <= _MOST_PROCESSES:
        raise FieldError(
            f"write a number of processes up to {_MOST_PROCESSES}, or -1 for no limit", "pids_limit"
        )
    if not -1000 <= spec.oom_score_adj <= 1000:
        raise FieldError("write a number from -1000 to 1000", "oom_score_adj")
    for name, limit in spec.ulimits.items():
        if limit.soft < -1 or limit.hard < -1:
            raise FieldError("write a number, or -1 for no limit", "ulimits", name)
        if max(limit.soft, limit.hard) > _MOST_RLIMIT:
            raise FieldError(f"at most {_MOST_RLIMIT}, or -1 for no limit", "ulimits", name)
        if limit.hard != -1 and not 0 <= limit.soft <= limit.hard:
            raise FieldError("the soft limit is above the hard one", "ulimits", name)


def check_namespaces(spec: Spec) -> None:
    """A namespace that is the host's must not be changed by a container."""
    if spec.uts == "host":
        for key in ("hostname", "domainname"):
            if getattr(spec, key):
                raise FieldError("with uts: host the name is the host's", key)
    for name in spec.sysctls:
        shared = (
            (name.startswith("net.") and spec.network_mode == "host" and "network_mode")
            or (name == "kernel.domainname" and spec.uts == "host" and "uts")
            or (not name.startswith("net.") and spec.ipc == "host" and "ipc")
        )
        if shared:
            raise FieldError(f"with {shared}: host it would change the host", "sysctls", name)
    if spec.runtime and spec.userns_mode not in ("", "host"):
        raise FieldError(
            f"it is hostctl's own runtime that does this, not {spec.runtime}: leave runtime out",
            "userns_mode",
        )
    if spec.init and spec.pid:
        raise FieldError(f"with pid: {spec.pid} another program is process 1", "init")
    for key in ("pid", "ipc"):
        kind, _, other = getattr(spec, key).partition(":")
        if kind == "container":
            check_name(other, key)
