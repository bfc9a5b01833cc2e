"""The parts of the runtime that touch no kernel: parsing and translation."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import (
    capabilities,
    cgroup,
    cgroup_v1,
    cgroup_v2,
    device_filter,
    device_program,
    mount_options,
    process,
    sysctls,
)
from hostctl_host.runtime import syscalls as sys


def test_resources_on_version_2() -> None:
    resources = {
        "memory": {"limit": 1000, "swap": 3000, "reservation": 500},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1"},
        "pids": {"limit": 10},
        "unified": {"memory.high": "900"},
    }
    assert [(file, value) for _, file, value in cgroup_v2.values(resources)] == [
        ("memory.max", "1000"),
        ("memory.swap.max", "2000"),
        ("memory.low", "500"),
        ("cpu.weight", "39"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("pids.max", "10"),
    ]
    assert cgroup_v2.unified(resources) == [("memory", "memory.high", "900")]
    assert cgroup_v2.weight(2) == 1
    assert cgroup_v2.weight(262144) == 10000


def test_resources_on_version_1() -> None:
    resources = {"memory": {"limit": 1000, "swap": 3000}, "pids": {"limit": -1}}
    assert [(file, value) for _, file, value in cgroup_v1.values(resources)] == [
        ("memory.limit_in_bytes", "1000"),
        ("memory.memsw.limit_in_bytes", "3000"),
        ("pids.max", "max"),
    ]


def test_version_2_on_a_plain_folder(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    cgroup_v2.make(str(tmp_path), "hostctl/containers/a")
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (tmp_path / "hostctl/containers/a").is_dir()
    hierarchies = cgroup.Hierarchies({}, str(tmp_path))
    own = cgroup.Cgroup("hostctl/containers/a", hierarchies)
    with pytest.raises(HostctlError, match="no memory cgroup here"):
        cgroup.update(own, {"memory": {"limit": 1}})
    (tmp_path / "hostctl/containers/a/cgroup.controllers").write_text("memory\n")
    (tmp_path / "hostctl/containers/a/memory.max").write_text("max")
    cgroup.update(own, {"memory": {"limit": 1}})
    assert (tmp_path / "hostctl/containers/a/memory.max").read_text().startswith("1")


def test_hierarchies_of_a_hybrid_host(tmp_path: Path) -> None:
    text = tmp_path / "mountinfo"
    text.write_text(
        "30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate\n"
        "31 25 0:27 / /sys/fs/cgroup/systemd rw shared:6 - cgroup cgroup rw,xattr,name=systemd\n"
        "32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:7 - cgroup cgroup rw,cpu,cpuacct\n"
        "33 25 0:29 / /mnt/again rw shared:8 - cgroup cgroup rw,cpu,cpuacct\n"
    )
    found = cgroup.detect(str(text))
    assert found.v2 == "/sys/fs/cgroup/unified"
    assert found.v1 == {
        "name=systemd": "/sys/fs/cgroup/systemd",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
    }
    assert len(cgroup.Cgroup("a", found).folders()) == 3


def test_mount_options() -> None:
    mount = mount_options.parse(
        {
            "destination": "/x",
            "type": "tmpfs",
            "options": ["nosuid", "ro", "rw", "size=1m", "rslave", "mode=755"],
        }
    )
    assert mount.set_flags == sys.MS_NOSUID
    assert mount.clear_flags == sys.MS_RDONLY
    assert mount.data == "size=1m,mode=755"
    assert mount.propagation == [sys.MS_SLAVE | sys.MS_REC]


def test_capability_masks() -> None:
    assert capabilities.mask(["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]) == 1 | 1 << 40
    # The specification: what cannot be given is said, and does not fail.
    assert capabilities.mask(["CAP_FLY", "CAP_CHOWN"]) == 1
    config = {"process": {"capabilities": {"bounding": ["CAP_FLY", "CAP_CHOWN"]}}}
    assert capabilities.warnings(config)[:1] == ["cannot give CAP_FLY: unknown capability"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("kernel.shmmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("net.ipv4.ip_forward", "network"),
        ("kernel.domainname", "uts"),
        ("vm.swappiness", None),
    ],
)
def test_sysctl_namespaces(name: str, kind: str | None) -> None:
    assert sysctls.namespace_of(name) == kind


def test_candidates_leave_out_the_working_directory() -> None:
    assert process.candidates("x", "/a::/b:") == ["/a/x", "/b/x"]
    assert process.candidates("./x", "/a") == ["./x"]


def _verdict(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """Run the program as the kernel would: only the instructions that `assemble` writes."""
    code = list(struct.iter_unpack("=BBhi", program))
    context = (access << 16 | kind, major, minor)
    registers = [0] * 11
    at = 0
    while True:
        opcode, both, offset, value = code[at]
        dst, src = both & 15, both >> 4
        at += 1
        if opcode == 0x61:
            registers[dst] = context[offset // 4]
        elif opcode == 0x54:
            registers[dst] &= value
        elif opcode == 0x74:
            registers[dst] >>= value
        elif opcode == 0xBC:
            registers[dst] = registers[src]
        elif opcode == 0xB7:
            registers[dst] = value
        elif opcode == 0x55:
            at += offset if registers[dst] != value else 0
        elif opcode == 0x15:
            at += offset if registers[dst] == value else 0
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(hex(opcode))


def test_device_program() -> None:
    rules = device_filter.rules(
        [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "r"},
        ]
    )
    program = device_program.assemble(rules)
    mknod, read, write = 1, 2, 4
    block, char = 1, 2
    assert _verdict(program, char, read | write, 1, 3) == 1  # /dev/null
    assert _verdict(program, char, read, 1, 1) == 0  # /dev/mem
    assert _verdict(program, char, mknod, 1, 1) == 1
    assert _verdict(program, block, mknod, 8, 0) == 1
    assert _verdict(program, block, read, 8, 0) == 0
    assert _verdict(program, char, read, 10, 200) == 1
    assert _verdict(program, char, read | write, 10, 200) == 0
    assert _verdict(program, char, read | write, 136, 7) == 1
