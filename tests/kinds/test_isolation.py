"""Runs in tests: keys of process, isolation and limits in real containers, read from /proc and cgroup files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostctl_host import container
from hostctl_host.container import Healthcheck
from hostctl_host.contract.change import Action, Reason
from hostctl_host.contract.errors import CannotObserve, HostctlError
from hostctl_host.contract.service import Device
from hostctl_host.monitor import client
from hostctl_host.runtime import cgroup

from .shop import Shop, open_shop

pytestmark = pytest.mark.root


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with open_shop(tmp_path, monkeypatch) as made:
        yield made


def started(shop: Shop, name: str, **fields: Any) -> tuple[container.Spec, int]:
    """The spec of a running container, and its first process."""
    spec = shop.spec(name, **fields)
    shop.converge(container, spec)
    return spec, client.status(shop.paths, spec.name).pid


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limit(shop: Shop, spec: container.Spec, v1: str, v2: str, path: str = "") -> str:
    """One file of the container's cgroup, whichever version its controller is of."""
    found = cgroup.detect()
    path = path or cgroup.container_path(shop.paths.run, spec.name)
    controller = v1.partition(".")[0]
    root, name = (found.v1[controller], v1) if controller in found.v1 else (found.v2, v2)
    return Path(root, path, name).read_text().strip()


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_the_process(shop: Shop) -> None:
    _, pid = started(
        shop,
        "a",
        group_add=("44", "app"),
        oom_score_adj=321,
        security_opt=("no-new-privileges=true",),
        sysctls={"net.core.somaxconn": "77", "kernel.msgmax": "9000"},
        shm_size=1 << 20,
        domainname="example.org",
        tmpfs=("/scratch:size=64k,exec",),
    )
    found = status(pid)
    assert found["Groups"].split() == ["0", "44", "1000"]
    assert found["NoNewPrivs"] == "1"
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "321\n"
    mounts = shop.mounts("test-a-1")
    assert "size=1024k" in mounts["/dev/shm"][-1]
    assert "noexec" not in mounts["/scratch"][5]
    assert {"nosuid", "nodev"} <= {*mounts["/scratch"][5].split(",")}
    hosts = (shop.root("test-a-1") / "etc" / "hosts").read_text()
    assert "test-a-1.example.org\ttest-a-1" in hosts


def test_its_kernel_parameters(shop: Shop) -> None:
    printed = shop.run(
        "a",
        "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax /proc/sys/kernel/domainname",
        sysctls={"net.core.somaxconn": "77", "kernel.msgmax": "9000"},
        domainname="example.org",
    )
    assert printed.split() == ["77", "9000", "example.org"]


def test_namespaces_of_the_host(shop: Shop) -> None:
    _, pid = started(shop, "a", pid="host", ipc="host", uts="host", cgroup="host")
    for kind in ("pid", "ipc", "uts", "cgroup"):
        assert namespace(pid, kind) == namespace("self", kind)
    assert namespace(pid, "mnt") != namespace("self", "mnt")
    shared, host = os.stat(f"/proc/{pid}/root/dev/shm"), os.stat("/dev/shm")
    assert (shared.st_dev, shared.st_ino) == (host.st_dev, host.st_ino)


def test_nothing_is_left_of_a_container_in_the_hosts_pid_namespace(shop: Shop) -> None:
    spec = shop.spec("a", "sleep 1001 & exec sleep 1000", pid="host")
    shop.converge(container, spec)
    own = cgroup.Cgroup(cgroup.container_path(shop.paths.run, spec.name), cgroup.detect())
    pids = own.processes()
    assert len(pids) == 2
    shop.converge(container, replace(spec, state="absent"))
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_namespaces_of_another_container(shop: Shop) -> None:
    _, db = started(shop, "db", ipc="shareable")
    (shop.root("test-db-1") / "dev" / "shm" / "mark").write_text("of db")
    shared = {"pid": "container:test-db-1", "ipc": "container:test-db-1"}
    spec, pid = started(shop, "a", **shared)
    assert namespace(pid, "pid") == namespace(db, "pid")
    assert namespace(pid, "ipc") == namespace(db, "ipc")
    assert namespace(pid, "uts") != namespace(db, "uts")
    assert (shop.root("test-a-1") / "dev" / "shm" / "mark").read_text() == "of db"
    shop.host.writable = False
    changed = shop.spec("db", ipc="shareable", environment={"A": "1"})
    assert shop.plan(container, changed)[0].action is Action.REPLACE
    assert shop.plan(container, spec)[0].reason is Reason.DEPENDENCY
    shop.host.writable = True
    # The other one is made anew: what shares its namespaces goes with it, and says why.
    changes = shop.converge(container, changed)
    assert changes[0].action is Action.REPLACE
    changes = shop.converge(container, spec)
    assert ("pid", Action.REPLACE, Reason.DEPENDENCY) in [
        (c.field, c.action, c.reason) for c in changes
    ]


def test_a_namespace_of_one_that_does_not_run(shop: Shop) -> None:
    with pytest.raises(HostctlError, match="shares pid with test-db-1, which does not run"):
        started(shop, "a", pid="container:test-db-1")


def test_devices(shop: Shop) -> None:
    printed = shop.run(
        "a",
        "ls -l /dev/mine; head -c 3 /dev/mine | wc -c; echo x > /dev/mine",
        devices=(Device("/dev/zero", "/dev/mine", "r"),),
    )
    assert re.search(r"1, +5 .*/dev/mine", printed)
    assert "\n3\n" in printed


def test_a_device_that_the_host_lacks_is_said_by_plan(shop: Shop) -> None:
    with pytest.raises(CannotObserve, match="cannot give the device /dev/nope: No such file"):
        shop.plan(container, shop.spec("a", devices=(Device("/dev/nope", "/dev/nope"),)))
    with pytest.raises(
        CannotObserve, match="cannot give the device /etc/hostname: it is no device"
    ):
        shop.plan(container, shop.spec("a", devices=(Device("/etc/hostname", "/dev/x"),)))


def test_privileged(shop: Shop) -> None:
    _, pid = started(shop, "a", privileged=True)
    found = status(pid)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert int(found["CapBnd"], 16) == int(status(os.getpid())["CapBnd"], 16) & ((2 << last) - 1)
    assert found["Seccomp"] == "0"
    assert (shop.root("test-a-1") / "dev" / "net" / "tun").is_char_device()
    assert not [target for target in shop.mounts("test-a-1") if target.startswith("/proc/")]


def test_a_seccomp_profile_of_ones_own(shop: Shop) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    name = shop.blobs.add(json.dumps(profile).encode())
    printed = shop.run("a", "mkdir /tmp/x 2>&1; true", security_opt=(f"seccomp=sha256:{name}",))
    assert "Permission denied" in printed


def test_unmasked_paths(shop: Shop) -> None:
    started(shop, "a", security_opt=("systempaths=unconfined",))
    assert not [target for target in shop.mounts("test-a-1") if target.startswith("/proc/")]


def test_a_cgroup_of_the_users_choice(shop: Shop) -> None:
    parent = f"hostctl-test-{os.getpid()}"
    spec = shop.spec("a", cgroup_parent=f"/{parent}", cpu_shares=512)
    shop.converge(container, spec)
    try:
        path = f"{parent}/test-a-1"
        pid = client.status(shop.paths, spec.name).pid
        assert f"/{path}\n" in Path(f"/proc/{pid}/cgroup").read_text()
        assert limit(shop, spec, "cpu.shares", "cpu.weight", path) in ("512", "20")
        shop.converge(container, replace(spec, cpu_shares=256))
        assert limit(shop, spec, "cpu.shares", "cpu.weight", path) in ("256", "10")
        shop.converge(container, replace(spec, state="absent"))
        folders = cgroup.Cgroup(path, cgroup.detect()).folders()
        assert not [folder for folder in folders if os.path.exists(folder)]
    finally:
        cgroup.release(cgroup.Cgroup(parent, cgroup.detect()))


def test_limits_change_in_place_and_are_taken_off(shop: Shop) -> None:
    spec, pid = started(shop, "a", cpu_shares=512, mem_limit=64 << 20, pids_limit=50)
    changed = replace(
        spec, cpu_shares=256, mem_limit=32 << 20, cpuset="0", cpus=0.5, mem_reservation=16 << 20
    )
    changes = shop.converge(container, changed)
    assert {c.action for c in changes} == {Action.UPDATE}
    assert limit(shop, spec, "cpu.shares", "cpu.weight") in ("256", "10")
    assert limit(shop, spec, "memory.limit_in_bytes", "memory.max") == str(32 << 20)
    assert limit(shop, spec, "memory.soft_limit_in_bytes", "memory.low") == str(16 << 20)
    assert limit(shop, spec, "cpuset.cpus", "cpuset.cpus") == "0"
    assert limit(shop, spec, "cpu.cfs_quota_us", "cpu.max").startswith("50000")
    bare = replace(changed, cpu_shares=0, mem_limit=0, cpus=0.0, mem_reservation=16 << 20)
    changes = shop.converge(container, bare)
    assert {(c.action, c.reason) for c in changes} == {(Action.UPDATE, Reason.UNSET)}
    assert limit(shop, spec, "cpu.shares", "cpu.weight") in ("1024", "39", "100")
    assert limit(shop, spec, "cpu.cfs_quota_us", "cpu.max").startswith(("-1", "max"))
    memory = limit(shop, spec, "memory.limit_in_bytes", "memory.max")
    assert memory == "max" or int(memory) > 1 << 60
    assert client.status(shop.paths, spec.name).pid == pid
    (found,) = shop.plan(container, replace(bare, cpuset=""))
    assert (found.field, found.action) == ("cpuset", Action.REPLACE)


def test_the_monitors_settings_change_in_place(shop: Shop) -> None:
    shop.image["config"]["Healthcheck"] = {"Test": ["CMD", "old"], "Timeout": 4_000_000_000}
    spec, pid = started(shop, "a", healthcheck=Healthcheck(interval=7.0))
    path = Path(shop.paths.container(spec.name), "monitor.json")
    assert json.loads(path.read_text())["healthcheck"]["test"] == ["CMD", "old"]
    (change,) = shop.converge(container, replace(spec, healthcheck=Healthcheck(interval=9.0)))
    assert (change.field, change.action) == ("healthcheck.interval", Action.UPDATE)
    found = json.loads(path.read_text())["healthcheck"]
    assert (found["test"], found["interval"], found["timeout"]) == (["CMD", "old"], 9.0, 4.0)
    assert client.status(shop.paths, spec.name).pid == pid
