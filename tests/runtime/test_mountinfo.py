"""Runs on the test machine: names that users give to mount points hide no mount, make none up, and fail nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostctl_host.runtime import cgroup_places, mountinfo

ODD = (
    b"a b",
    b"a\tb",
    b"a\nb",
    b"a\\b",
    b"a#b",
    b"\xff",
    b"a\rb",
    b"a\x0bb",
    b"\xc2\x85\xc2\xa0",
    b"-",
)
CODE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from hostctl_host.runtime import cgroup_places, mountinfo, syscalls
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount(None, "/", None, syscalls.MS_PRIVATE | syscalls.MS_REC)
before = cgroup_places.detect()
for path in sys.argv[2:]:
    syscalls.mount("tmpfs", path, "tmpfs", 0, "size=12k")
found = {mount.path for mount in mountinfo.read() if "size=12k" in mount.options}
assert found == set(sys.argv[2:]), found
after = cgroup_places.detect()
assert (before.v1, before.v2) == (after.v1, after.v2)
"""


@pytest.mark.root
def test_odd_names_of_mount_points(tmp_path: Path) -> None:
    places = [os.path.join(os.fsencode(tmp_path), name) for name in ODD]
    for place in places:
        os.mkdir(place)
    package = os.path.dirname(os.path.dirname(os.path.dirname(mountinfo.__file__)))
    done = subprocess.run([sys.executable, "-c", CODE, package, *places], check=False)
    assert done.returncode == 0


def test_a_mount_that_is_made_up_in_a_name_is_none(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    forged = b"x\r40\\04035\\0400:9\\040/\\040/evil\\040rw\\040-\\040cgroup2"
    file.write_bytes(
        b"36 35 0:50 / /home/u/" + forged + b" rw shared:1 - fuse.f  rw\n"
        b"37 35 0:51 / /sys/fs/cgroup rw,nosuid shared:2 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    odd, real = mountinfo.read(str(file))
    assert (odd.type, odd.device, odd.options) == ("fuse.f", "0:50", ["rw"])
    assert (real.path, real.flags, real.options) == (
        "/sys/fs/cgroup",
        ["rw", "nosuid"],
        ["rw", "nsdelegate"],
    )
    assert cgroup_places.detect(str(file)).v2 == "/sys/fs/cgroup"
