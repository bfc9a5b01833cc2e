"""Runs on the managed host, before a container is started: the AppArmor profile of those that name none.

The rules are those of Docker's `docker-default`. Whoever starts the first container after a boot loads them;
what they are is written down beside, so that another version of hostctl loads its own. A host whose kernel
has no AppArmor, or that has no `apparmor_parser`, confines nothing, as with Docker.
Source: apparmor.d(5), apparmor_parser(8), the template in github.com/moby/profiles.
"""

from __future__ import annotations

import fcntl
import os

from . import labels, programs
from .cgroup_files import read
from .config import APPARMOR, Config, RuntimeFailure, annotation

NAME = "hostctl-default"
DEFAULT = "default"
FILE, _LOCK = "apparmor", "apparmor.lock"
"""In the run folder: the rules that were loaded last."""
POLICY = "/sys/kernel/security/apparmor"
RULES = "/etc/apparmor.d"
PARSERS = ("/usr/sbin/apparmor_parser", "/sbin/apparmor_parser")
_SECONDS = 30.0
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

# `abi`, `tunables` and `abstractions` only where the parser's own files are there: 2.13 (Debian 11) knows no
# abi, and from 4.0 on `network` alone would no longer mean unix sockets.
_PROFILE = """\
# Of containers that name no AppArmor profile. Written by hostctl.
{head}
profile {name} flags=(attach_disconnected,mediate_deleted) {{
{base}
  network,
  capability,
  file,
  umount,
  deny mount,

  # Who starts and stops it may signal it, and its processes each other. They may trace each other, too.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send,receive) peer={name},
  ptrace (trace,read,tracedby,readby) peer={name},

  # Of /proc only what belongs to processes, and shared memory's limits.
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,

  # Of /sys nothing but cgroups.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"""


def resolve(config: Config, run_dir: str, *, load: bool) -> Config:
    """The config with the profile's name, where the container is to have it and this host can do it.

    Args:
        load: the container is about to start. What comes into one that runs finds the profile in the kernel,
            or the container has none, too.
    Raises:
        RuntimeFailure: it cannot be loaded.
    """
    if annotation(config, APPARMOR) != DEFAULT or not _usable():
        return config
    if load:
        _ensure(run_dir)
    elif not _known():
        return config
    config["process"]["apparmorProfile"] = NAME
    return config


def _usable() -> bool:
    return labels.has_apparmor() and os.path.isdir(POLICY) and bool(_parser())


def _parser() -> str:
    return next((path for path in PARSERS if os.access(path, os.X_OK)), "")


def _known() -> bool:
    """Whether the kernel has a profile of this name."""
    own = f"{NAME} (".encode()
    try:
        with open(os.path.join(POLICY, "profiles"), "rb") as listed:
            return any(line.startswith(own) for line in listed)
    except OSError:
        return False


def _loaded(path: str, rules: str) -> bool:
    return read(path) == rules and _known()


def _ensure(run_dir: str) -> None:
    path, rules = os.path.join(run_dir, FILE), profile()
    if _loaded(path, rules):
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(os.path.join(run_dir, _LOCK), flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _loaded(path, rules):
            _load(path, rules)
    finally:
        os.close(lock)


def _load(path: str, rules: str) -> None:
    """The file gets its name once the kernel has the rules."""
    temp = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temp, flags, 0o600), "w", encoding="ascii") as stream:
        stream.write(rules)
    # The cache is the distribution's, and not for rules that are loaded once a boot.
    words = ["apparmor_parser", "--skip-cache", "--replace", temp]
    status, said = programs.run(_parser(), words, _ENVIRONMENT, seconds=_SECONDS)
    if status != 0:
        why = f"it took more than {_SECONDS:g} s" if status is None else said
        raise RuntimeFailure(
            f"cannot load the AppArmor profile {NAME}: {why or 'apparmor_parser failed'}",
            hint=f"try `{' '.join(words)}` on the host; "
            "`security_opt: [apparmor=unconfined]` does without a profile",
            ref="no-profile",
        )
    os.rename(temp, path)


def profile() -> str:
    """The rules, for the parser of this host."""
    abi, tunables, base = (
        os.path.isfile(os.path.join(RULES, name))
        for name in ("abi/3.0", "tunables/global", "abstractions/base")
    )
    head = ("abi <abi/3.0>,\n" if abi else "") + (
        "#include <tunables/global>" if tunables else "@{PROC}=/proc/"
    )
    return _PROFILE.format(
        name=NAME, head=head, base="  #include <abstractions/base>\n" if base else ""
    )
