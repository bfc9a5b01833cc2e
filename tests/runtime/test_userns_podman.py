"""A container with users of its own beside podman's by Debian's runc: the same is seen in /proc and of files."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host.runtime import cgroup, id_ranges

from tests.kinds.shop import Shop, open_shop
from tests.runtime.test_podman import Podman, leave_no_folder

pytestmark = pytest.mark.root

SCRIPT = """
exec 2> /dev/null
cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status
stat -c '%n %u:%g %a' /proc/1 /proc/sys/kernel /dev /dev/shm /etc/passwd /etc/hosts /bin/busybox /tmp
echo 1 > /proc/sys/kernel/domainname || echo refused
chown 65535:65535 /tmp && stat -c %u:%g /tmp; chown 65536 /tmp || echo refused
mknod /tmp/node c 1 3 || echo refused
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    for one in (tmp_path, *tmp_path.parents):
        if one.stat().st_mode & 0o777 == 0o700:
            one.chmod(0o711)
    with open_shop(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("user", ["0", "1000:1000"])
def test_the_same_container(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory, user: str
) -> None:
    ours = shop.run("a", SCRIPT, userns_mode="private", user=user)
    first = id_ranges.held(shop.paths, "test-a-1")
    folder = tmp_path_factory.mktemp("p")  # podman takes no long path
    folder.chmod(0o711)
    podman = Podman(folder, Path("/usr/sbin/runc"))
    with tarfile.open(folder / "image.tar", "w") as archive:
        archive.add(shop.layer, ".")
    podman("import", str(folder / "image.tar"), "box")
    maps = [f"--{kind}map=0:{first}:65536" for kind in ("uid", "gid")]
    try:
        theirs = podman.run(*("--rm", *maps, "--user", user, "box", "sh", "-c", SCRIPT))
    finally:
        podman("rm", "--all", "--force", "--time", "0")
        shutil.rmtree(folder / "root")
        cgroup.release(cgroup.Cgroup(podman.group, cgroup.detect()))
        leave_no_folder()
    assert str(first) in ours
    assert ours.splitlines() == theirs.splitlines()
