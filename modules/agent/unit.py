"""Runs on the managed host: what makes the host's init start and stop containers: texts and places.

The init's own file never changes with hostctl's version: it calls the *starter*, a small script that names
the agent. systemd: systemd.service(5), systemd.resource-control(5); OpenRC: openrc-run(8).
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from ..runtime import cgroup_places as places
from . import systemd
from .files import private_folder, write_atomic

if TYPE_CHECKING:
    from .paths import Paths

SYSTEMD, OPENRC = "systemd", "openrc"
UNITS = "/etc/systemd/system"
_SCRIPTS, _RUNLEVEL = "/etc/init.d", "/etc/runlevels/default"

# No main process: what runs are monitors and containers. ExecStartPost, because only what is no main process
# is kept out of the cgroup itself (in `.control`), where version 2 wants no process beside inner cgroups.
_UNIT = """\
# Written by hostctl, which removes it with the last project of this host.
[Unit]
Description=Containers of hostctl{which}
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target nss-lookup.target local-fs.target remote-fs.target
After=nftables.service iptables.service firewalld.service ufw.service
RequiresMountsFor={data}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPost=/bin/sh {starter} boot
ExecStop=-/bin/sh {starter} shutdown
TimeoutStartSec=infinity
TimeoutStopSec=infinity
KillMode=process
Delegate=yes
TasksMax=infinity
OOMPolicy=continue
Slice={slice}

[Install]
WantedBy=multi-user.target
"""

_SCRIPT = """\
#!/sbin/openrc-run
# Written by hostctl, which removes it with the last project of this host.
description="Containers of hostctl{which}"

depend() {{
    use localmount net netmount dns
    after firewall iptables nftables
}}

start() {{
    ebegin "Starting containers"
    /bin/sh {starter} boot
    eend $?
}}

stop() {{
    ebegin "Stopping containers"
    /bin/sh {starter} shutdown
    eend $?
}}
"""

_STARTER = """\
#!/bin/sh
# Written by hostctl. `boot` starts this host's containers, `shutdown` stops them; core {core}
for python in {python} python3; do
    command -v "$python" > /dev/null &&
        exec "$python" -I -S {start} "$@" --data-dir {data} --run-dir {run}
done
echo "hostctl: there is no python3 any more; apply a playbook again" >&2
exit 1
"""


def init() -> str:
    """Which init can be told to start something at boot, by this user; empty: none that is known."""
    if os.geteuid() != 0:
        return ""
    if systemd.runs():
        return SYSTEMD
    return OPENRC if os.path.isdir("/run/openrc") else ""


def name(paths: Paths) -> str:
    """The service's name, without a suffix; every run folder has its own."""
    own = places.instance(paths.run)
    return f"hostctl-{own}" if own else "hostctl"


def place(kind: str, paths: Paths) -> str:
    """The init's own file."""
    if kind == SYSTEMD:
        return os.path.join(UNITS, f"{name(paths)}.service")
    return os.path.join(_SCRIPTS, name(paths))


def text(kind: str, paths: Paths) -> str:
    """What is in it."""
    own = places.instance(paths.run)
    which = f" in {paths.data}" if own else ""
    if kind == SYSTEMD:
        starter = _escaped(starter_path(paths))
        return _UNIT.format(
            which=which.replace("%", "%%"),
            data=_escaped(paths.data),
            starter=starter,
            slice=places.SLICE,
        )
    quoted = "".join("\\" + letter if letter in '"\\$`' else letter for letter in which)
    return _SCRIPT.format(which=quoted, starter=shlex.quote(starter_path(paths)))


def link(paths: Paths) -> str:
    """OpenRC: what `rc-update add` makes."""
    return os.path.join(_RUNLEVEL, name(paths))


def delegated(paths: Paths) -> str:
    """systemd: the cgroup of the service, from the root of each hierarchy."""
    return f"{places.SLICE}/{name(paths)}.service"


def delegate(paths: Paths) -> None:
    """From now on, and until a reboot, containers of this host live in the cgroup of the service."""
    private_folder(paths.run)
    path = os.path.join(paths.run, places.DELEGATED)
    write_atomic(path, delegated(paths).encode(), sync=False)


def starter_path(paths: Paths) -> str:
    """`DATA/boot`."""
    return os.path.join(paths.data, "boot")


def starter(paths: Paths, agent: str, core: str, python: str) -> str:
    """The script.

    Args:
        agent: the folder of an agent.
        core: what tells its version from others, see `core`.
        python: the interpreter to try first.
    """
    return _STARTER.format(
        core=core,
        python=shlex.quote(python),
        start=shlex.quote(os.path.join(agent, "start.py")),
        data=shlex.quote(paths.data),
        run=shlex.quote(paths.run),
    )


def core(agent: str) -> str:
    """Which hostctl an agent is, whatever kinds of a user's own it has; of a checkout, its folder's name."""
    try:
        with open(os.path.join(agent, "core"), encoding="ascii") as stream:
            return stream.read(12)
    except FileNotFoundError:
        return os.path.basename(agent)[:12]


def named(script: str) -> tuple[str, bool]:
    """From the text of a starter: the core that it names, and whether its agent is still there."""
    _, _, rest = script.partition("; core ")
    try:
        words = shlex.split(script.partition(" -I -S ")[2].partition("\n")[0])
    except ValueError:  # somebody has changed it
        words = []
    there = bool(words) and os.path.isfile(words[0])
    return rest.partition("\n")[0], there


def _escaped(path: str) -> str:
    """A path in a unit file: specifiers and spaces are systemd's own."""
    return path.replace("\\", "\\\\").replace("%", "%%").replace(" ", "\\x20").replace("$", "$$")
