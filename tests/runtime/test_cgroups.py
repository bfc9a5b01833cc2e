"""Limits, pausing, numbers and ends of cgroups: on this machine's hierarchies, and version 2's on plain folders.

Of version 2 the kernel here offers the hugetlb controller, freezing, killing and cpu.stat; tests on
a plain folder prove which file gets which value, not that a kernel takes it.
"""

from __future__ import annotations

import errno
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import (
    cgroup,
    cgroup_files,
    cgroup_stats,
    cgroup_v1,
    cgroup_v2,
)
from hostctl_host.runtime.cgroup import Cgroup, Hierarchies

from tests.runtime.workshop import start_in, until

pytestmark = pytest.mark.root


_BIG = 64 << 20


def _file(own: Cgroup, controller: str, name: str) -> str:
    return Path(own.hierarchies.v1[controller], own.path, name).read_text().strip()


def test_everything_that_version_1_here_can_limit(own: Cgroup) -> None:
    number = os.stat("/dev/loop0").st_rdev
    disk = {"major": os.major(number), "minor": os.minor(number)}
    cgroup.update(
        own,
        {
            "memory": {
                "limit": _BIG,
                "swap": 2 * _BIG,
                "reservation": _BIG // 2,
                "swappiness": 10,
                "disableOOMKiller": True,
                "useHierarchy": True,
                "kernel": -1,
            },
            "cpu": {
                "shares": 300,
                "quota": 40_000,
                "period": 80_000,
                "burst": 10_000,
                "cpus": "0",
                "mems": "0",
            },
            "pids": {"limit": 33},
            "blockIO": {
                "weight": 300,
                "throttleReadBpsDevice": [{**disk, "rate": 1 << 20}],
                "throttleWriteIOPSDevice": [{**disk, "rate": 77}],
            },
        },
    )
    assert _file(own, "memory", "memory.limit_in_bytes") == str(_BIG)
    assert _file(own, "memory", "memory.memsw.limit_in_bytes") == str(2 * _BIG)
    assert _file(own, "memory", "memory.soft_limit_in_bytes") == str(_BIG // 2)
    assert _file(own, "memory", "memory.swappiness") == "10"
    assert "oom_kill_disable 1" in _file(own, "memory", "memory.oom_control")
    assert _file(own, "cpu", "cpu.shares") == "300"
    assert _file(own, "cpu", "cpu.cfs_quota_us") == "40000"
    assert _file(own, "cpu", "cpu.cfs_period_us") == "80000"
    assert _file(own, "cpu", "cpu.cfs_burst_us") == "10000"
    assert _file(own, "cpuset", "cpuset.cpus") == "0"
    assert _file(own, "pids", "pids.max") == "33"
    assert "300" in _file(own, "blkio", "blkio.bfq.weight")
    pair = f"{disk['major']}:{disk['minor']}"
    assert _file(own, "blkio", "blkio.throttle.read_bps_device") == f"{pair} {1 << 20}"
    assert _file(own, "blkio", "blkio.throttle.write_iops_device") == f"{pair} 77"
    cgroup.update(own, {"memory": {"disableOOMKiller": False}, "cpu": {"idle": 1}})
    assert "oom_kill_disable 0" in _file(own, "memory", "memory.oom_control")
    assert _file(own, "cpu", "cpu.idle") == "1"


def test_limits_change_in_any_direction(own: Cgroup) -> None:
    """The kernel refuses a limit above that with swap, and a quota's burst above the quota."""
    for limit in (_BIG, 4 * _BIG, _BIG, 8 * _BIG):
        cgroup.update(own, {"memory": {"limit": limit, "swap": limit}})
        assert _file(own, "memory", "memory.memsw.limit_in_bytes") == str(limit)
        assert _file(own, "memory", "memory.limit_in_bytes") == str(limit)
    for quota in (50_000, 5_000, 90_000):
        cgroup.update(own, {"cpu": {"quota": quota, "burst": quota}})
        assert _file(own, "cpu", "cpu.cfs_burst_us") == str(quota)
    cgroup.update(own, {"memory": {"limit": -1}, "cpu": {"quota": -1, "burst": 0}})
    assert int(_file(own, "memory", "memory.memsw.limit_in_bytes")) > 1 << 60
    assert _file(own, "cpu", "cpu.cfs_quota_us") == "-1"


def test_a_limit_below_what_is_used_is_refused(own: Cgroup) -> None:
    script = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo up; sleep 100"
    process = subprocess.Popen(["sh", "-c", script], preexec_fn=own.enter, stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == b"up\n"
        with pytest.raises(HostctlError, match="bytes are in use") as caught:
            cgroup.update(own, {"memory": {"limit": 1 << 20}})
        assert "higher limit" in caught.value.hint
    finally:
        own.kill()
        process.wait(5)
        assert process.stdout
        process.stdout.close()


def test_huge_pages_by_the_kernels_version_2() -> None:
    """The one limit that this kernel keeps on version 2: the controller is passed down when asked for."""
    root = cgroup.detect().v2
    assert "hugetlb" in Path(root, "cgroup.controllers").read_text().split()
    path = f"hostctl/test-{uuid.uuid4().hex[:12]}"
    limits = {"hugepageLimits": [{"pageSize": "2MB", "limit": 8 << 20}]}
    own = cgroup.prepare(path, {**limits, "unified": {"cgroup.max.depth": "3"}})
    try:
        folder = Path(root, path)
        assert (folder / "hugetlb.2MB.max").read_text() == f"{8 << 20}\n"
        assert (folder / "hugetlb.2MB.rsvd.max").read_text() == f"{8 << 20}\n"
        assert (folder / "cgroup.max.depth").read_text() == "3\n"
        assert cgroup_stats.read_stats(own)["hugetlb"]["2MB"] == {
            "usage": 0,
            "max": 0,
            "failcnt": 0,
        }
    finally:
        cgroup.release(own)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"unified": {"memory.high": "1"}}, "no memory cgroup here"),
        ({"unified": {"../x": "1"}}, "not a cgroup file"),
        ({"network": {"classID": 5}}, "network.classID"),
        ({"rdma": {"mlx5": {"hcaHandles": 2}}}, "no rdma cgroup here"),
        ({"memory": {"swappiness": 101}}, "0 to 100"),
        ({"cpu": {"cpus": "0-4095"}}, "cpuset.cpus"),
        ({"water": {"limit": 1}}, "water"),
    ],
)
def test_what_cannot_be_is_an_error(resources: dict[str, Any], words: str) -> None:
    path = f"hostctl/test-{uuid.uuid4().hex[:12]}"
    try:
        with pytest.raises(HostctlError, match=words):
            cgroup.prepare(path, resources)
    finally:
        cgroup.release(Cgroup(path, cgroup.detect()))


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Cgroup, Path]:
    """A version 2 cgroup that is a plain folder, with all controllers and empty files."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "cgroup.controllers").write_text("cpu cpuset io memory pids hugetlb rdma")
    names = (
        "memory.max memory.swap.max memory.low memory.high cpu.weight cpu.max cpu.max.burst cpu.idle"
        " cpuset.cpus cpuset.mems pids.max io.weight io.max hugetlb.2MB.max rdma.max"
    )
    for name in names.split():
        (folder / name).touch()
    return Cgroup("a", Hierarchies({}, str(tmp_path))), folder


def test_everything_in_version_2s_words(plain: tuple[Cgroup, Path]) -> None:
    """On a plain folder: the last value written to each file."""
    own, folder = plain
    disk = {"major": 8, "minor": 0}
    cgroup.update(
        own,
        {
            "memory": {"limit": 1000, "swap": 1500, "reservation": 300, "useHierarchy": True},
            "cpu": {"shares": 2048, "quota": 5, "burst": 2, "cpus": "0-1", "mems": "0", "idle": 1},
            "pids": {"limit": 9},
            "blockIO": {"weight": 500, "throttleWriteBpsDevice": [{**disk, "rate": 6}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}},
            "unified": {"memory.high": "900"},
        },
    )
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "cgroup.controllers": "cpu cpuset io memory pids hugetlb rdma",
        "memory.max": "1000",
        "memory.swap.max": "500",
        "memory.low": "300",
        "memory.high": "900",
        "cpu.weight": "79",
        "cpu.max": "5 100000",
        "cpu.max.burst": "2",
        "cpu.idle": "1",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "pids.max": "9",
        "io.weight": "4950",
        "io.max": "8:0 wbps=6",
        "hugetlb.2MB.max": "4",
        "rdma.max": "mlx5_1 hca_handle=3 hca_object=10",
    }


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"memory": {"kernel": 5}}, "memory.kernel"),
        ({"memory": {"swappiness": 0}}, "memory.swappiness"),
        ({"memory": {"disableOOMKiller": True}}, "disableOOMKiller"),
        ({"memory": {"useHierarchy": False}}, "useHierarchy"),
        ({"memory": {"swap": 5}}, "memory alone has no limit"),
        ({"memory": {"limit": 6, "swap": 5}}, "memory alone is allowed 6"),
        ({"memory": {"limit": 5, "checkBeforeUpdate": True}}, "70 are in use"),
        ({"cpu": {"realtimeRuntime": 5}}, "realtimeRuntime"),
        ({"blockIO": {"leafWeight": 5}}, "leafWeight"),
        ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, "network.priorities"),
        ({"unified": {"misc.max": "x 1"}}, "no misc cgroup here"),
    ],
)
def test_what_version_2_has_no_word_for(
    plain: tuple[Cgroup, Path], resources: dict[str, Any], words: str
) -> None:
    """On a plain folder: nothing was written."""
    own, folder = plain
    (folder / "memory.current").write_text("70")
    with pytest.raises(HostctlError, match=words):
        cgroup.update(own, resources)
    assert (folder / "memory.max").read_text() == ""


def test_conversions_are_runcs() -> None:
    assert [cgroup_v2.weight(shares) for shares in (2, 1024, 262144)] == [1, 39, 10000]
    assert [cgroup_files._converted(text) for text in ("10", "500", "8:0 1000")] == [
        "1",
        "4950",
        "8:0 10000",
    ]
    unlimited = {"memory": {"limit": -1}}
    assert [value for _, _, value in cgroup_v2.values(unlimited)] == ["max", "max"]
    assert [value for _, _, value in cgroup_v1.values(unlimited)] == ["-1", "-1"]
    # What podman and Docker write where nothing is limited changes nothing.
    empty = {"memory": {"disableOOMKiller": False}, "cpu": {"shares": 0}, "blockIO": {"weight": 0}}
    assert cgroup_v1.values({**empty, "pids": {"limit": 0}}, fresh=True) == []


def test_numbers_of_version_1_are_those_of_its_files(own: Cgroup) -> None:
    cgroup.update(own, {"memory": {"limit": _BIG}, "cpu": {"quota": 10_000}, "pids": {"limit": 9}})
    process = start_in(own, "sh", "-c", "while :; do :; done")
    try:
        until(lambda: cgroup_stats.read_stats(own)["cpu"]["throttling"]["throttledPeriods"] > 1)
        found = cgroup_stats.read_stats(own)
    finally:
        own.kill()
        process.wait(5)
    assert found["cpu"]["usage"]["total"] > 10_000_000
    assert found["cpu"]["usage"]["user"] + found["cpu"]["usage"]["kernel"] <= (
        2 * found["cpu"]["usage"]["total"]
    )
    assert found["cpu"]["throttling"]["throttledTime"] > 0
    assert found["memory"]["usage"]["limit"] == _BIG
    assert 0 < found["memory"]["usage"]["usage"] <= found["memory"]["usage"]["max"] <= _BIG
    assert found["memory"]["swap"]["limit"] == cgroup_files.UNLIMITED
    assert found["memory"]["oomKills"] == 0
    assert found["pids"] == {"current": 1, "limit": 9}
    assert found["memory"]["raw"]["pgfault"] > 0


def test_numbers_of_version_2_have_the_same_shape(plain: tuple[Cgroup, Path], own: Cgroup) -> None:
    """On a plain folder, with the texts that cgroup-v2.rst shows."""
    fake, folder = plain
    texts = {
        "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
        "memory.current": "100\n",
        "memory.max": "200\n",
        "memory.peak": "150\n",
        "memory.swap.current": "7\n",
        "memory.swap.max": "50\n",
        "memory.stat": "anon 60\nfile 40\n",
        "memory.events": "low 0\nmax 5\noom 2\noom_kill 1\n",
        "pids.current": "3\n",
        "pids.max": "max\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
        "hugetlb.2MB.current": "0\n",
        "hugetlb.2MB.events": "max 4\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    found = cgroup_stats.read_stats(fake)
    assert found["cpu"] == {
        "usage": {"total": 30_000, "user": 20_000, "kernel": 10_000},
        "throttling": {"periods": 4, "throttledPeriods": 3, "throttledTime": 2000},
    }
    memory = found["memory"]
    assert memory["usage"] == {"limit": 200, "usage": 100, "max": 150, "failcnt": 5}
    assert memory["swap"] == {"limit": 250, "usage": 107, "max": 0, "failcnt": 0}
    assert (memory["cache"], memory["oomKills"]) == (40, 1)
    assert found["pids"] == {"current": 3, "limit": 0}
    assert found["blkio"]["ioServicedRecursive"] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 1},
        {"major": 8, "minor": 0, "op": "Write", "value": 2},
    ]
    assert found["hugetlb"]["2MB"]["failcnt"] == 4
    assert found.keys() == cgroup_stats.read_stats(own).keys()


def test_a_refusal_names_the_file_and_the_reason(tmp_path: Path) -> None:
    refused = cgroup_files.refused(
        (str(tmp_path), "cpu.rt_runtime_us", "9"), OSError(errno.EINVAL, "x")
    )
    assert refused.message == "cannot set cpu.rt_runtime_us to 9: Invalid argument"
    assert "each cgroup above" in refused.hint
