"""Runs on the test machine: a container of hostctl's beside Docker's of the same options, field by field.

What differs is listed with its reason; everything else must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hostctl_host import container
from hostctl_host.container import Ulimit
from hostctl_host.contract.service import Device
from hostctl_host.monitor import client
from hostctl_host.runtime import cgroup

from tests.kinds.shop import Shop, open_shop

from .dockers import Docker, daemon
from .looks import Look, limits, program

pytestmark = pytest.mark.root


PROGRAM = ("sleep", "1000")


@dataclass(frozen=True)
class Case:
    """The same options in both languages."""

    docker: tuple[str, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)


CASES = {
    "default": Case(),
    "privileged": Case(("--privileged",), {"privileged": True}),
    "capabilities": Case(
        ("--cap-add=NET_ADMIN", "--cap-add=SYS_PTRACE", "--cap-drop=MKNOD", "--cap-drop=CHOWN"),
        {
            "cap_add": ("CAP_NET_ADMIN", "CAP_SYS_PTRACE"),
            "cap_drop": ("CAP_MKNOD", "CAP_CHOWN"),
        },
    ),
    "no capabilities": Case(("--cap-drop=ALL",), {"cap_drop": ("ALL",)}),
    "all capabilities": Case(("--cap-add=ALL",), {"cap_add": ("ALL",)}),
    "read-only": Case(("--read-only",), {"read_only": True}),
    "user": Case(
        ("--user=app:logs", "--group-add=4321"), {"user": "app:logs", "group_add": ("4321",)}
    ),
    "user number": Case(("--user=1234",), {"user": "1234"}),
    "ulimits": Case(
        ("--ulimit=nofile=100:200", "--ulimit=core=0", "--ulimit=memlock=65536"),
        {
            "ulimits": {
                "nofile": Ulimit(100, 200),
                "core": Ulimit(0, 0),
                "memlock": Ulimit(65536, 65536),
            }
        },
    ),
    "host's pid": Case(("--pid=host",), {"pid": "host"}),
    "host's ipc": Case(("--ipc=host",), {"ipc": "host"}),
    "host's uts": Case(("--uts=host",), {"uts": "host"}),
    "host's cgroup": Case(("--cgroupns=host",), {"cgroup": "host"}),
    "tmpfs": Case(
        ("--tmpfs=/scratch:size=1m,mode=0700", "--tmpfs=/other:exec"),
        {"tmpfs": ("/scratch:size=1m,mode=0700", "/other:exec")},
    ),
    "shm": Case(("--shm-size=8m",), {"shm_size": 8 << 20}),
    "init": Case(("--init",), {"init": True}),
    "sysctls": Case(
        ("--sysctl=net.core.somaxconn=77", "--sysctl=kernel.msgmax=4096"),
        {"sysctls": {"net.core.somaxconn": "77", "kernel.msgmax": "4096"}},
    ),
    "no new privileges": Case(
        ("--security-opt=no-new-privileges",), {"security_opt": ("no-new-privileges=true",)}
    ),
    "no seccomp": Case(
        ("--security-opt=seccomp=unconfined",), {"security_opt": ("seccomp=unconfined",)}
    ),
    "all of the system": Case(
        ("--security-opt=systempaths=unconfined",), {"security_opt": ("systempaths=unconfined",)}
    ),
    "limits": Case(
        (
            "--memory=64m",
            "--memory-reservation=32m",
            "--cpus=0.5",
            "--cpu-shares=512",
            "--cpuset-cpus=0",
            "--pids-limit=50",
            "--oom-score-adj=300",
        ),
        {
            "mem_limit": 64 << 20,
            "mem_reservation": 32 << 20,
            "cpus": 0.5,
            "cpu_shares": 512,
            "cpuset": "0",
            "pids_limit": 50,
            "oom_score_adj": 300,
        },
    ),
    "surroundings": Case(
        ("--env=A=b", "--env=PATH=/bin", "--workdir=/tmp", "--hostname=abc"),
        {"environment": {"A": "b", "PATH": "/bin"}, "working_dir": "/tmp", "hostname": "abc"},
    ),
    "devices": Case(
        ("--device=/dev/null:/dev/void:rw", "--device-cgroup-rule=c 10:229 rm"),
        {
            "devices": (Device("/dev/null", "/dev/void", "rw"),),
            "device_cgroup_rules": ("c 10:229 rm",),
        },
    ),
}

# (case or *, field, what is there) -> why hostctl's is another one.


REASONS = {
    ("*", "device dev/core"): "as crun makes it: also where the kernel has no /proc/kcore",
    ("*", "file /etc/mtab"): "an image says itself whether it has one",
    ("host's ipc", "mount /dev/shm"): "with the flags that one of its own has",
    ("host's uts", "environment HOSTNAME"): "the host's name; Docker says the container's number",
    ("host's uts", "file /etc/hostname says"): "the same",
    ("host's cgroup", "process cgroup seen inside"): "the names of the folders",
    ("init", "status SigBlk"): "Docker's init here is catatonit, which lets them blocked",
    ("init", "mount /sbin/docker-init"): "hostctl's init is no file of the container",
    ("*", "mount /"): "nobody else has hostctl's: it is mounted in the container's own namespace",
    ("*", "mount /proc/interrupts"): "today's Docker masks it, too",
    ("*", "mount /sys/devices/virtual/powercap"): "today's Docker masks it, too",
    ("*", "mount /sys/fs/cgroup"): "the folder of hierarchies is read-only in hostctl as they are",
    (
        "*",
        "mount /sys/fs/cgroup/unified",
    ): "hostctl shows version 2 beside version 1, as systemd needs it",
    (
        "*",
        "sysctl net/ipv6/conf/all/disable_ipv6",
    ): "today's Docker leaves the loopback its address",
    ("*", "sysctl net/ipv6/conf/default/disable_ipv6"): "today's Docker leaves it on",
    ("*", "sysctl net/ipv6/conf/lo/disable_ipv6"): "today's Docker leaves the loopback its address",
    (
        "*",
        "limits of cgroups pids pids.max",
    ): "4096 where nothing is said: a host survives its containers",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch, open_shop(tmp_path_factory.mktemp("s"), patch) as s:
        (s.layer / "etc" / "group").write_text("root:x:0:\napp:x:1000:\nlogs:x:44:app\n")
        s.image = {"config": {"Env": ["PATH=/bin:/usr/bin", "IMAGE=yes"]}}
        yield s


@pytest.fixture(scope="module")
def docker(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with daemon(tmp_path_factory.mktemp("d")) as found:
        found.import_image(shop.layer, "ENV PATH=/bin:/usr/bin", "ENV IMAGE=yes")
        yield found


@pytest.mark.parametrize("name", CASES)
def test_the_same_as_dockers(name: str, docker: Docker, shop: Shop) -> None:
    case = CASES[name]
    argv = (
        *(("--cgroupns=private",) if "--cgroupns=host" not in case.docker else ()),
        *case.docker,
    )
    if "--hostname=abc" not in argv and "--uts=host" not in argv:
        argv = ("--hostname=same", *argv)
    ident, first = docker.run(*argv, "box", *PROGRAM)
    spec = shop.spec("same", **case.spec)
    spec = replace(spec, command=PROGRAM)
    if "hostname" not in case.spec and "uts" not in case.spec:
        spec = replace(spec, hostname="same")
    shop.converge(container, spec)
    try:
        own = client.status(shop.paths, spec.name).pid
        theirs, ours = Look(program(first)), Look(program(own))
        groups = cgroup.Cgroup(cgroup.container_path(shop.paths.run, spec.name), cgroup.detect())
        found = {"theirs": theirs.all(), "ours": ours.all()}
        found["theirs"]["limits of cgroups"] = limits(f"docker/{ident}")
        found["ours"]["limits of cgroups"] = limits(groups.path)
    finally:
        docker("rm", "-f", ident)
        shop.converge(container, replace(spec, state="absent"))
    wrong = [
        f"{key} {inner}: Docker {one.get(inner)!r}, hostctl {found['ours'][key].get(inner)!r}"
        for key, one in found["theirs"].items()
        for inner in sorted({*one, *found["ours"][key]})
        if one.get(inner) != found["ours"][key].get(inner) and not excused(name, key, inner)
    ]
    assert not wrong, "\n".join(wrong)


def excused(case: str, key: str, inner: str) -> bool:
    return any((who, f"{key} {inner}") in REASONS for who in ("*", case))
