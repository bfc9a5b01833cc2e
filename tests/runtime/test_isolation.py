"""What the kernel says about a running container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostctl_host import container
from hostctl_host.agent.host import Host
from hostctl_host.container import Mount, Ulimit
from hostctl_host.contract.change import Action, Change
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import client
from hostctl_host.runtime import cgroup

from tests.runtime.workshop import Workshop

pytestmark = pytest.mark.root


def _status(pid: int, field: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    raise AssertionError(field)


def test_namespaces_are_its_own(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    pid = client.start(workshop.paths, "a").pid
    for kind in ("mnt", "pid", "net", "uts", "ipc", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")


def test_rights(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    pid = client.start(workshop.paths, "a").pid
    for field in ("CapPrm", "CapEff", "CapBnd"):
        assert _status(pid, field) == "00000000a80425fb"
    assert _status(pid, "CapInh") == _status(pid, "CapAmb") == "0" * 16
    assert _status(pid, "SigIgn") == "0" * 16
    assert os.listdir(f"/proc/{pid}/fd") == ["0", "1", "2"]


@pytest.mark.parametrize("init", [False, True])
def test_its_null_is_not_the_hosts(workshop: Workshop, init: bool) -> None:
    ended, output = workshop.run(
        "a", "stat", "-L", "-c", "%d", "/proc/self/fd/0", "/dev/null", init=init
    )
    assert ended.exit_code == 0
    mine, containers = map(int, output.split())
    assert mine == containers != os.stat("/dev/null").st_dev


def test_no_new_privileges_and_dropped_capabilities(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = True
        config["process"]["oomScoreAdj"] = 321

    workshop.make("a", "sleep", "1000", cap_drop=("ALL",), cap_add=("CAP_CHOWN",), change=change)
    pid = client.start(workshop.paths, "a").pid
    assert _status(pid, "CapEff") == _status(pid, "CapBnd") == "0" * 15 + "1"
    assert _status(pid, "NoNewPrivs") == "1"
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "321"


def test_mounts(workshop: Workshop) -> None:
    script = "cat /proc/mounts; ls /dev; cat /proc/kcore; echo x > /proc/sys/kernel/domainname"
    ended, output = workshop.run("a", "sh", "-c", script)
    assert ended.exit_code == 1
    lines = [line.split() for line in output.splitlines() if line.count(" ") == 5]
    by_target = {fields[1]: fields for fields in lines}
    assert by_target["/"][2] == "overlay"
    assert by_target["/proc"][3].startswith("rw,nosuid,nodev,noexec")
    assert by_target["/sys"][3].startswith("ro,")
    assert by_target["/proc/sys"][3].startswith("ro,")
    assert "null" in output
    assert "Read-only file system" in output


def test_read_only_root_keeps_its_mounts_writable(workshop: Workshop) -> None:
    script = "touch /x; touch /dev/shm/y && echo shm-ok; pwd"
    ended, output = workshop.run("a", "sh", "-c", script, read_only=True, working_dir="/made/here")
    assert "Read-only file system" in output
    assert "shm-ok\n/made/here\n" in output
    assert ended.exit_code == 0


def test_bind_volumes(workshop: Workshop, tmp_path: Path) -> None:
    source = tmp_path / "shared"
    source.mkdir()
    (source / "f").write_text("from the host\n")
    volumes = (
        Mount("/rw/deep", "bind", str(source)),
        Mount("/ro", "bind", str(source), read_only=True),
        Mount("/etc/one", "bind", str(source / "f"), read_only=True),
    )
    script = "cat /ro/f /etc/one; echo new > /rw/deep/g; echo no > /ro/g"
    _, output = workshop.run("a", "sh", "-c", script, volumes=volumes)
    assert output.startswith("from the host\nfrom the host\n")
    assert "Read-only file system" in output
    assert (source / "g").read_text() == "new\n"


def test_a_link_in_the_image_leads_nowhere_outside(workshop: Workshop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (workshop.layers / "l1" / "evil").symlink_to(outside)
    source = tmp_path / "shared"
    source.mkdir()
    volumes = (Mount("/evil/inside", "bind", str(source)),)
    (source / "f").write_text("seen\n")
    _, output = workshop.run("a", "cat", "/evil/inside/f", f"{outside}/inside/f", volumes=volumes)
    assert output == "seen\nseen\n"
    assert list(outside.iterdir()) == []


def test_limits(workshop: Workshop) -> None:
    limits = {"nofile": Ulimit(123, 456)}
    workshop.make("a", "sleep", "1000", mem_limit=64 << 20, cpus=0.5, pids_limit=17, ulimits=limits)
    pid = client.start(workshop.paths, "a").pid
    text = Path(f"/proc/{pid}/limits").read_text()
    assert next(line for line in text.splitlines() if "open files" in line).split()[3:5] == [
        "123",
        "456",
    ]
    path = cgroup.container_path(workshop.paths.run, "a")
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        assert line.split(":", 2)[2] == f"/{path}", line
    v1 = cgroup.detect().v1
    if "memory" in v1:
        assert Path(v1["memory"], path, "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
        assert Path(v1["cpu"], path, "cpu.cfs_quota_us").read_text() == "50000\n"
        assert Path(v1["pids"], path, "pids.max").read_text() == "17\n"
    else:
        folder = Path(cgroup.detect().v2, path)
        assert (folder / "memory.max").read_text() == f"{64 << 20}\n"
        assert (folder / "cpu.max").read_text() == "50000 100000\n"
        assert (folder / "pids.max").read_text() == "17\n"


def test_pids_limit_holds(workshop: Workshop) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo done"
    _, output = workshop.run("a", "sh", "-c", script, pids_limit=4)
    assert "Resource temporarily unavailable" in output


def test_out_of_memory_is_recorded(workshop: Workshop) -> None:
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; dd if=/dev/zero bs=40M of=/dev/null"
    ended, _ = workshop.run("a", "sh", "-c", f"exec sh -c '{script}'", mem_limit=16 << 20)
    assert ended.oom


def test_devices_are_restricted(workshop: Workshop) -> None:
    script = (
        "mknod /tmp/vda b 254 0; mknod /tmp/mem c 1 1; cat /tmp/vda; cat /tmp/mem; cat /dev/null"
    )
    _, output = workshop.run("a", "sh", "-c", script)
    assert output.count("Operation not permitted") == 2


def test_user_and_home(workshop: Workshop) -> None:
    ended, output = workshop.run(
        "a", "sh", "-c", "id -u; id -G; echo $HOME; echo late > /dev/stdout", user="app"
    )
    # Without a user in the layer links' own /etc/passwd the bundle would have refused.
    assert output == "1000\n1000 44\n/home/app\nlate\n", ended


def test_init_reaps_and_forwards(workshop: Workshop) -> None:
    script = "trap 'echo got; exit 7' TERM; (sleep 0.1 &) ; echo up; while :; do sleep 0.05; done"
    workshop.make("a", "sh", "-c", script, init=True)
    pid = client.start(workshop.paths, "a").pid
    workshop.wait_output("a", "up")
    assert Path(f"/proc/{pid}/comm").read_text() == "hostctl-init\n"
    assert _status(pid, "CapEff") == "00000000a80425fb"
    state = client.stop(workshop.paths, "a")
    assert state.exit_code == 7
    assert "got" in workshop.output("a")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("/bin/nothing",), 127, "no such program in the image"),
        (("nothing",), 127, "PATH"),
        (("/etc",), 126, "Permission denied"),
    ],
)
def test_a_program_that_cannot_run(
    workshop: Workshop, command: tuple[str, ...], code: int, words: str
) -> None:
    with pytest.raises(HostctlError, match=words) as caught:
        workshop.run("a", *command)
    assert getattr(caught.value, "code", None) == code
    state = client.status(workshop.paths, "a")
    assert (state.status, state.exit_code) == ("exited", code)
    assert workshop.cgroups() == []


def test_limits_of_a_container_that_has_ended_change_with_its_next_start(
    workshop: Workshop,
) -> None:
    workshop.run("a", "true", restart="no")
    host = Host(paths=workshop.paths)
    spec = replace(container.Spec("a", "busybox", command=("true",)), mem_limit=64 << 20)
    there = container.Observed(spec={}, image_id="i", target_id="i", status="exited", watched=True)
    change = Change(Action.UPDATE, "mem_limit", None, 64 << 20)
    container.apply(spec, there, [change], host)
    config = Path(workshop.paths.container("a")) / "bundle" / "config.json"
    assert json.loads(config.read_text())["linux"]["resources"]["memory"]["limit"] == 64 << 20


def test_a_first_process_that_fails_says_why(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["sysctl"] = {"net.ipv4.not_there": "1"}

    workshop.make("a", "true", change=change)
    with pytest.raises(HostctlError, match=r"not_there"):
        client.start(workshop.paths, "a")


def test_a_long_name_is_cut_to_a_hosts_name(workshop: Workshop) -> None:
    name = "a" * 62 + "-" + "b" * 40
    _, output = workshop.run(name, "hostname")
    assert output.strip() == "a" * 62


def test_what_is_not_supported_is_refused(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["intelRdt"] = {"closID": "guests"}

    with pytest.raises(HostctlError, match=r"linux\.intelRdt is not supported yet"):
        workshop.run("a", "true", change=change)


def test_crun_runs_the_same_bundle_alike(workshop: Workshop, tmp_path: Path) -> None:
    """The same config.json, a plain OCI bundle: the same words from inside."""
    script = (
        "exec 2>&1; id; pwd; hostname; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; ls /dev;"
        " ulimit -n; cat /proc/self/oom_score_adj; ls -ld /proc/acpi /proc/kcore; ls /proc/acpi"
    )

    def plain(config: dict[str, Any]) -> None:
        del config["annotations"]["hostctl.overlay"]
        config["linux"]["resources"] = {"devices": config["linux"]["resources"]["devices"]}
        config["mounts"] = [m for m in config["mounts"] if m["type"] != "cgroup"]
        config["ociVersion"] = "1.0.2"  # all that Debian's crun knows
        config["process"]["env"].append("HOME=/root")
        config["process"]["oomScoreAdj"] = 5
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]

    workshop.make("a", "sh", "-c", script, change=plain)
    folder = Path(workshop.paths.container("a")) / "bundle"
    shutil.rmtree(folder / "rootfs")
    shutil.copytree(workshop.layers / "l1", folder / "rootfs", symlinks=True)
    client.start(workshop.paths, "a")
    workshop.wait("a", "exited")
    # crun refuses a hybrid host: it sees version 1 alone.
    hide = "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; "
    crun = ("crun", "--cgroup-manager=disabled", "--root", str(tmp_path / "crun"))
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", hide + '"$@"', "sh", *crun, "run", "hostctl-t"],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert workshop.output("a") == done.stdout + done.stderr
