"""Runs on the test machine: a plan over SSH with a kind whose `observe` tries to write everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import state
from tests.e2e.command import Hostctl
from tests.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

KIND = '''
"""Runs on the managed host: a kind with a bug: it writes while it should only look."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from .contract.change import Action, Change


@dataclass(frozen=True)
class Spec:
    name: str


ATTEMPTS = {
    "a file in /etc": "echo x > /etc/hostctl-was-here",
    "a file through the first process": "echo x > /proc/1/root/etc/hostctl-was-here",
    "another mode": "chmod 0777 /etc/passwd",
    "removal": "rm -f /etc/hosts",
    "a kernel parameter": "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "a cgroup": "mkdir /sys/fs/cgroup/hostctl-was-here /sys/fs/cgroup/pids/hostctl-was-here",
    "a remount": "mount -o remount,rw / && echo x > /etc/hostctl-was-here",
    "a mount": "mount -t tmpfs none /mnt",
    "a device": "mknod /tmp/disk b 253 0",
    "a link": "ip link add was-here type dummy",
    "a rule": "nft add table inet was_here",
    "a hostname": "hostname was-here",
}


def observe(spec, host):
    succeeded = []
    for name, script in ATTEMPTS.items():
        done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
        if done.returncode == 0:
            succeeded.append(name)
    return succeeded


def diff(spec, observed):
    return [Change(Action.UPDATE, "succeeded", after=list(observed))]


def apply(spec, observed, changes, host):
    return None
'''


def test_a_kind_that_writes_while_it_looks_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "careless.py").write_text(KIND)
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        "- hosts: web1\n  become: true\n  project: careless\n  tasks:\n    - careless: {name: x}\n"
    )
    with Lab({"web1": {"user": "ops"}}, with_images=False) as lab:
        before = (state.tree(lab["web1"]), state.kernel(lab["web1"]))
        done = Hostctl(lab)("plan", "--json", str(playbook))
        assert (state.tree(lab["web1"]), state.kernel(lab["web1"])) == before
        assert lab["web1"].sh("hostname").strip() != "was-here"
    (change,) = done.json["hosts"]["web1"]["changes"]
    assert change["after"] == []
    assert done.code == 2
