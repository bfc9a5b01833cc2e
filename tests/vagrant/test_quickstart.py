"""Runs on the test machine: what the README shows first, on machines that nothing has prepared."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from .conftest import Site
from .machine import Machine

PLAYBOOK = Path(__file__).parents[2] / "playbooks" / "quickstart.yml"

SEEN = """
find / -xdev -path /var/lib/hostctl -prune -o \
    -path /var/log -prune -o -path '/var/lib/apt/*' -prune -o -path '/var/cache/*' -prune -o \
    -path '/var/lib/systemd/*' -prune -o -path '/tmp/*' -prune -o -path '/var/tmp/*' -prune -o -print
ls /sys/class/net
nft list ruleset
find /sys/fs/cgroup -type d -name '*hostctl*'
systemctl list-unit-files --no-legend --no-pager
cat /etc/passwd /etc/group /proc/sys/net/ipv4/ip_forward
"""


def seen(vm: Machine) -> set[str]:
    """Files, links, firewall rules, cgroups, units, users of a machine."""
    return set(vm.sh(SEEN).splitlines())


def page(vm: Machine) -> str:
    with urllib.request.urlopen(f"http://{vm.address}:8080/", timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.core
def test_the_quick_start(site: Site) -> None:
    """A user tries hostctl on new machines, and takes it away again."""
    hostctl, vms = site.hostctl, site.machines.hosts
    hostctl("destroy", "--yes", "--volumes", str(PLAYBOOK))  # from an earlier run on kept machines
    before = {name: seen(vm) for name, vm in vms.items()}

    planned = hostctl("plan", "--json", str(PLAYBOOK), timeout=300)
    assert planned.code == 2, planned.err
    assert {name: seen(vm) - before[name] for name, vm in vms.items()} == {n: set() for n in vms}

    applied = hostctl("apply", "--json", str(PLAYBOOK), timeout=600)
    assert applied.code == 0, applied.out + applied.err
    assert applied.changed() == planned.changed()
    for name, vm in vms.items():
        assert "Hello from hostctl" in page(vm), name
        assert vm.run(["tree", "--version"], sudo=False).stdout

    again = hostctl("apply", "--json", str(PLAYBOOK), timeout=300)
    assert (again.code, again.changed()) == (0, {name: [] for name in vms})

    gone = hostctl("destroy", "--json", "--yes", "--volumes", str(PLAYBOOK), timeout=300)
    assert gone.code == 0, gone.out + gone.err
    for name, vm in vms.items():
        assert seen(vm) ^ before[name] == set(), name
