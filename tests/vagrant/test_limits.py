"""Runs on the test machine: limits, devices and profiles that a kernel with version 2 of cgroups enforces."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .conftest import POLITE, Site

HOG = "until test -e /tmp/go; do sleep 0.2; done; exec python3 -c 'b = bytearray(256 << 20)'"
CONTAINERS = f"""\
  volumes: {{data: }}
  containers:
    hog: {{image: shell, mem_limit: 48m, command: [sh, -c, "{HOG}"]}}
    busy: {{image: shell, cpus: 0.25, command: [sh, -c, "while :; do :; done"], stop_grace_period: 1s}}
    few: {{image: shell, pids_limit: 20, command: [sh, -c, "{POLITE}"]}}
    pinned: {{image: shell, cpuset: "1", command: [sh, -c, "{POLITE}"]}}
    slow:
      image: shell
      command: [sh, -c, "{POLITE}"]
      volumes: [data:/data]
      blkio_config: {{device_write_bps: [{{path: /dev/vda, rate: 1mb}}]}}
    device: {{image: shell, command: [sh, -c, "{POLITE}"], device_cgroup_rules: ["b 7:0 r"]}}
"""
SHARE = """
import time
def used():
    return int(open('{}/cpu.stat').read().split()[1])
before, begun = used(), time.monotonic()
time.sleep(8)
print((used() - before) / 1e6 / (time.monotonic() - begun))
"""
PROFILE = "hostctl-test"
RULES = f"""profile {PROFILE} flags=(attach_disconnected) {{
  file, capability, network, signal, ptrace, unix, deny /etc/lab/** w,
}}
"""


@pytest.fixture(scope="module")
def limited(machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:  # type: ignore[no-untyped-def]
    """All containers with limits, applied once."""
    site = Site(machines, next(iter(machines.hosts.values())), tmp_path_factory.mktemp("limits"))
    site.vm.ready()
    site.vm.sh("modprobe loop; udevadm settle")
    site("apply", site.write(CONTAINERS, "limits"))
    yield site
    site.clear()


def cgroup(site: Site, name: str) -> str:
    path = site.vm.sh(f"cat /proc/{site.vm.container_pid(name)}/cgroup").strip()
    assert path.startswith("0::/"), path  # version 2 alone
    return f"/sys/fs/cgroup{path.removeprefix('0::')}"


def refused(site: Site, container: str, script: str) -> str:
    """What a script in a container says that must fail."""
    done = site.hostctl("exec", "-l", site.vm.name, container, "sh", "-c", script)
    assert done.code != 0, done.out
    return done.out + done.err


@pytest.mark.core
def test_memory(limited: Site) -> None:
    """A program that takes more than its limit is killed, and people are told why."""
    limited("exec", "limits-hog-1", "touch", "/tmp/go")
    state = "/var/lib/hostctl/containers/limits-hog-1/state.json"
    limited.vm.wait_until(f"grep -q '\"oom\": *true' {state}")
    assert json.loads(limited.vm.sh(f"cat {state}"))["exit_code"] == 137
    assert limited.ps()["limits-hog-1"] == "exited"
    assert "Exited (137, out of memory)" in limited("ps", "--all").out
    assert "out of memory" in limited("plan", limited.folder / "limits.yml", code=2).out


@pytest.mark.core
def test_cpu(limited: Site) -> None:
    """A quarter of a processor is a quarter, within a tenth."""
    script = SHARE.format(cgroup(limited, "limits-busy-1"))
    share = float(limited.vm.run(["python3", "-c", script]).stdout)
    assert share == pytest.approx(0.25, rel=0.1)


@pytest.mark.core
def test_processes_and_processors(limited: Site) -> None:
    """No more processes than the limit, and no other processor than the one that was given."""
    told = refused(
        limited, "limits-few-1", "for i in $(seq 40); do sleep 30 & done; kill 0; exit 1"
    )
    assert "fork" in told.lower()
    events = limited.vm.sh(f"cat {cgroup(limited, 'limits-few-1')}/pids.events").split()
    assert int(events[1]) > 0
    found = limited("exec", "limits-pinned-1", "grep", "Cpus_allowed_list", "/proc/self/status").out
    assert found.split() == ["Cpus_allowed_list:", "1"]


@pytest.mark.core
def test_writes_to_a_disk(limited: Site) -> None:
    """A disk takes as many bytes a second as the container may write."""
    write = "dd if=/dev/zero of=/data/x bs=1M count=6 oflag=direct 2> /dev/null"
    script = f"a=$(date +%s%N); {write}; b=$(date +%s%N); echo $((b - a))"
    took = int(limited("exec", "limits-slow-1", "sh", "-c", script).out) / 1e9
    assert took > 4


@pytest.mark.core
def test_devices(limited: Site) -> None:
    """A node is worth what the device filter lets it be: read one, write none, not the host's disk."""
    make = "rm -f /tmp/l /tmp/d; mknod /tmp/l b 7 0; mknod /tmp/d b $(cat /sys/block/vda/dev | tr : ' ')"
    limited("exec", "limits-device-1", "sh", "-c", make)
    read = "dd if=/tmp/{} of=/dev/null count=1"
    limited("exec", "limits-device-1", "sh", "-c", read.format("l"))
    assert "not permitted" in refused(limited, "limits-device-1", read.format("d"))
    write = "dd if=/dev/zero of=/tmp/l count=1"
    assert "not permitted" in refused(limited, "limits-device-1", write)


@pytest.mark.core
def test_a_profile_of_apparmor(site: Site) -> None:
    """A container and what is executed in it are confined by the profile that it names, others are not."""
    vm = site.vm
    vm.run(["apparmor_parser", "--replace", "--skip-cache"], input=RULES)
    try:
        path = site.write(
            "  containers:\n"
            f'    held: {{image: shell, command: [sh, -c, "{POLITE}"], security_opt: [apparmor={PROFILE}]}}\n'
        )
        site("apply", path)
        current = vm.sh(f"cat /proc/{vm.container_pid('shop-held-1')}/attr/current").strip("\0\n")
        assert current == f"{PROFILE} (enforce)"
        inside = site("exec", "shop-held-1", "cat", "/proc/self/attr/current").out
        assert inside.strip() == current
        assert "denied" in refused(site, "shop-held-1", "echo > /etc/lab/new")
        site("exec", "shop-held-1", "sh", "-c", "echo > /tmp/new")
        assert site.changed("plan", path) == []
        site("destroy", path)
    finally:
        vm.run(["apparmor_parser", "--remove"], input=RULES)


@pytest.mark.core
def test_the_default_profile_of_apparmor(site: Site) -> None:
    """What names no profile has hostctl's own, which lets a container work and be stopped; also after a reboot."""
    vm = site.vm
    polite = f'image: shell, command: [sh, -c, "{POLITE}"], restart: unless-stopped'
    path = site.write(
        "  containers:\n"
        f"    held: {{{polite}, cap_add: [SYS_ADMIN]}}\n"
        f"    init: {{{polite}, init: true}}\n"
        f'    free: {{{polite}, cap_add: [SYS_ADMIN], security_opt: ["apparmor=unconfined"]}}\n'
        f"    all: {{{polite}, privileged: true}}\n"
    )
    site("apply", path)

    def label(service: str) -> str:
        pid = vm.container_pid(f"shop-{service}-1")
        return vm.sh(f"cat /proc/{pid}/attr/current").strip("\0\n")

    def labels() -> dict[str, str]:
        return {service: label(service) for service in ("held", "init", "free", "all")}

    own = "hostctl-default (enforce)"
    wanted = {"held": own, "init": own, "free": "unconfined", "all": "unconfined"}
    assert labels() == wanted
    assert site("exec", "shop-held-1", "cat", "/proc/self/attr/current").out.strip() == own
    # It forbids what the capability would allow.
    mount = "mkdir -p /tmp/m && mount -t tmpfs none /tmp/m"
    assert "cannot mount" in refused(site, "shop-held-1", mount)
    site("exec", "shop-free-1", "sh", "-c", mount)
    # Processes of a container signal and look at each other, process 1 included.
    for service in ("held", "init"):
        work = "kill -0 1 && sleep 100 & kill -0 $! && readlink /proc/$!/exe && kill $!"
        site("exec", f"shop-{service}-1", "sh", "-c", work)
        site("stop", f"shop-{service}-1")
        site("start", f"shop-{service}-1")
    assert labels() == wanted
    # Somebody takes it out of the kernel: the next start brings it back.
    vm.sh("apparmor_parser --remove /run/hostctl/apparmor")
    site("restart", "shop-held-1")
    assert label("held") == own
    assert site.changed("plan", path) == []
    vm.reboot()
    vm.ready()
    runs = 'grep -l \'"status": *"running"\' /run/hostctl/containers/*/state.json'
    vm.wait_until(f"test $({runs} | wc -l) = {len(wanted)}")
    assert labels() == wanted
    rows = site("ps", "--all", "--json").json["hosts"][vm.name]
    assert {row["restarts"] for row in rows} == {0}
    site("destroy", path)
