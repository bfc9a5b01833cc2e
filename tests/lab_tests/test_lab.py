"""Runs on the test machine: the lab itself, before anything of hostctl is tested on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests import leaks
from tests.lab import OPS_PASSWORD, Lab, oci, slots
from tests.lab.paths import WORK

pytestmark = [pytest.mark.root, pytest.mark.lab]


def ssh(lab: Lab, host: str, user: str, command: str) -> subprocess.CompletedProcess[str]:
    argv = [*lab[host].ssh(user), command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


def test_up_and_down_leave_nothing(record_property) -> None:
    before = leaks.snapshot()
    begin = time.monotonic()
    lab = Lab({"a": {}, "b": {}})
    lab.up()
    record_property("seconds up", time.monotonic() - begin)
    slot, pid = lab.slot, lab["a"].pid
    lab["a"].sh("sleep 300 > /dev/null 2>&1 & mkdir -p /sys/fs/cgroup/memory/some/child; true")
    lab["a"].sh("mkdir -p /tmp/x && mount -t tmpfs tmpfs /tmp/x && ip link add br0 type bridge")
    begin = time.monotonic()
    lab.down()
    record_property("seconds down", time.monotonic() - begin)

    def mine(found: dict[str, list[str]]) -> list[str]:
        words = (f"/{slot}-", f"hclab{slot}", f"work/{slot}")
        everything = [item for items in found.values() for item in items]
        return [item for item in everything if any(word in item for word in words)]

    assert mine(leaks.left(before, shared=False)) == []
    assert leaks.left(before, shared=True) == {}
    assert not Path(f"/proc/{pid}").exists()
    assert not (WORK / str(slot)).exists()


def test_hosts_have_namespaces_of_their_own(lab: Lab) -> None:
    for name in ("net", "mnt", "pid", "uts", "ipc", "cgroup"):
        here = Path(f"/proc/self/ns/{name}").readlink()
        there = {lab[host].run(["readlink", f"/proc/self/ns/{name}"]).stdout for host in lab.hosts}
        assert len(there | {f"{here}\n"}) == 3


def test_processes_of_a_host_are_in_its_own_cgroups(lab: Lab) -> None:
    inside = ssh(lab, "web1", "root", "cat /proc/self/cgroup").stdout.splitlines()
    assert {line.split(":", 2)[2] for line in inside} <= {"/", "/init.scope"}
    lab["web1"].sh(
        "for g in /sys/fs/cgroup/*/; do mkdir $g/made-inside; rmdir $g/made-inside; done"
    )


def test_the_data_folder_is_no_overlay(lab: Lab) -> None:
    kind = lab["web1"].sh("stat -f -c %T /var/lib/hostctl; stat -f -c %T /").split()
    assert kind[0] != "overlayfs" and kind[1] == "overlayfs"
    assert lab["web1"].sh(
        "cd /var/lib/hostctl; mkdir l u w m; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w o m;"
        "touch m/x; ls u; umount m; rm -r l u w m"
    ).split() == ["x"]


def test_logins(lab: Lab) -> None:
    assert ssh(lab, "web1", "root", "id -un").stdout == "root\n"
    assert ssh(lab, "web1", "ops", "sudo -n id -un").stdout == "root\n"
    assert ssh(lab, "web1", "opspw", "sudo -n id -un").returncode != 0
    asked = ssh(lab, "web1", "opspw", f"echo {OPS_PASSWORD} | sudo -S -p '' id -un")
    assert asked.stdout == "root\n"
    assert ssh(lab, "web1", "guest", "sudo -n id -un").returncode != 0


def test_orphans_are_reaped(lab: Lab) -> None:
    lab["web1"].sh("(sleep 0.05 &) ; sleep 0.3")
    states = lab["web1"].run(["ps", "-e", "-o", "stat="]).stdout.split()
    assert not [state for state in states if state.startswith("Z")]


def test_hosts_reach_each_other_the_registry_and_the_archive(lab: Lab) -> None:
    assert lab["web1"].sh(f"curl -sf http://{lab.registry.url}/v2/").strip() == "{}"
    release = "http://deb.debian.org/debian/dists/bookworm/Release"
    assert "Codename: bookworm" in lab["web1"].sh(f"curl -sf {release}")
    refused = lab["web1"].sh("curl -s -o /dev/null -w '%{http_code}' http://deb.debian.org/etc")
    assert refused == "403"
    assert lab["web2"].sh("timeout 5 bash -c 'head -c 4 < /dev/tcp/web1/22'") == "SSH-"


def test_images_are_what_their_digests_say(lab: Lab) -> None:
    url = f"http://{lab.registry.url}/v2/redis"
    found = {}
    for tag in ("1", "2"):
        request = urllib.request.Request(f"{url}/manifests/{tag}", headers={"Accept": oci.MANIFEST})
        found[tag] = json.load(urllib.request.urlopen(request, timeout=10))
    layers = {tag: [layer["digest"] for layer in found[tag]["layers"]] for tag in found}
    assert layers["1"][:2] == layers["2"][:2] and layers["1"][2] != layers["2"][2]
    last = urllib.request.urlopen(f"{url}/blobs/{layers['2'][2]}", timeout=10).read()
    assert oci.digest(last) == layers["2"][2]


def test_a_host_can_be_stopped_and_started() -> None:
    with Lab({"a": {}}, with_images=False) as lab:
        lab["a"].sh(
            "echo kept > /root/kept; echo kept > /var/lib/hostctl/kept; echo lost > /run/lost"
        )
        lab["a"].stop()
        assert ssh(lab, "a", "root", "true").returncode == 255
        lab["a"].start()
        assert lab["a"].sh("cat /root/kept /var/lib/hostctl/kept").split() == ["kept", "kept"]
        assert lab["a"].run(["test", "-e", "/run/lost"], check=False).returncode == 1
        assert ssh(lab, "a", "root", "true").returncode == 0


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"suite": "bullseye"}, "Python 3.9."),
        ({"python": "3.6"}, "Python 3.6."),
        ({"python": None}, ""),
    ],
)
def test_variants_of_python(options: dict[str, object], answer: str) -> None:
    with Lab({"a": options}, with_images=False) as lab:
        done = ssh(lab, "a", "ops", "python3 --version")
    assert done.stdout.startswith(answer)
    assert (done.returncode == 0) == bool(answer)


def test_a_lab_whose_owner_was_killed_is_removed_by_the_next() -> None:
    code = (
        "from tests.lab import Lab\n"
        "lab = Lab({'a': {}}, with_images=False); lab.up(); print(lab.slot, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != leaks.MARK}
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert owner.stdout
    slot = int(owner.stdout.readline())
    assert slots.claims()[slot].alive
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert not slots.claims()[slot].alive
    with Lab({"b": {}}, with_images=False) as lab:
        claim = slots.claims().get(slot)
        assert claim is None or claim.alive
        assert lab["b"].sh("hostname") == "b\n"
