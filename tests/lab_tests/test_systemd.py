"""Runs on the test machine: lab hosts that boot a real systemd."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, systemd

pytestmark = [pytest.mark.root, pytest.mark.lab]

SETTINGS = (
    "kernel/core_pattern",
    "kernel/printk",
    "fs/nr_open",
    "fs/file-max",
    "fs/protected_fifos",
)


@pytest.fixture(scope="module")
def machines() -> Iterator[Lab]:
    hosts = {"sd": {"init": "systemd"}, "old": {"init": "systemd", "suite": "bullseye"}}
    with Lab(hosts, with_images=False) as made:
        yield made


@pytest.mark.parametrize(("name", "version"), [("sd", "252"), ("old", "247")])
def test_systemd_is_pid_1_and_has_nothing_to_complain_of(
    machines: Lab, name: str, version: str
) -> None:
    assert machines[name].sh("cat /proc/1/comm") == "systemd\n"
    assert f"systemd {version}" in machines[name].sh("systemctl --version")
    assert machines[name].sh("systemctl is-system-running") == "running\n"
    assert machines[name].sh("journalctl -b -u ssh --no-pager").count("Server listening")


def test_a_login_is_a_session_in_a_scope_of_its_own(machines: Lab) -> None:
    argv = [*machines["sd"].ssh("ops"), "cat /proc/self/cgroup; loginctl --no-legend"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout
    assert "/session-" in told and ".scope" in told and " ops " in told


def test_a_unit_is_limited_by_its_cgroup(machines: Lab) -> None:
    run = "systemd-run --quiet --wait --pipe -p MemoryMax=64M"
    told = machines["sd"].sh(f"{run} grep memory: /proc/self/cgroup")
    folder = "/sys/fs/cgroup/memory" + told.strip().rpartition(":")[2]
    assert folder.endswith(".service")
    machines["sd"].sh(
        f"{run} --unit limited sh -c 'cat {Path(folder).parent}/limited.service/memory.limit_in_bytes > /run/limit'"
    )
    assert machines["sd"].sh("cat /run/limit") == f"{64 << 20}\n"


def test_boot_and_shutdown_leave_this_machine_alone(machines: Lab) -> None:
    before = {name: Path("/proc/sys", name).read_text() for name in SETTINGS}
    groups = Path("/proc/cgroups").read_text()
    begin = time.monotonic()
    machines["sd"].reboot()
    assert time.monotonic() - begin < 10
    assert {name: Path("/proc/sys", name).read_text() for name in SETTINGS} == before
    columns = [line.split()[:2] for line in groups.splitlines()]
    assert [line.split()[:2] for line in Path("/proc/cgroups").read_text().splitlines()] == columns
    units = machines["sd"].sh("systemctl list-units --all --no-legend --no-pager --state=active")
    assert not [unit for unit in systemd.MASKED if unit in units]


def test_shutdown_stops_units_in_order_and_what_is_enabled_comes_back(machines: Lab) -> None:
    host = machines["sd"]
    for name, after in (("under", ""), ("over", "After=under.service\nRequires=under.service\n")):
        unit = (
            f"[Unit]\n{after}[Service]\nType=oneshot\nRemainAfterExit=yes\n"
            f"ExecStart=/bin/sh -c 'echo start {name} >> /root/order'\n"
            f"ExecStop=/bin/sh -c 'echo stop {name} >> /root/order'\n"
            "[Install]\nWantedBy=multi-user.target\n"
        )
        host.run(["tee", f"/etc/systemd/system/{name}.service"], input=unit)
    host.sh("systemctl daemon-reload; systemctl enable over; systemctl start over")
    host.reboot()
    assert host.sh("cat /root/order").splitlines() == [
        *("start under", "start over"),
        *("stop over", "stop under"),
        *("start under", "start over"),
    ]
