"""Device nodes and who may use them: the rules, version 1's list, version 2's program, and crun beside them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import cgroup, device_filter, device_program, host_devices, syscalls
from hostctl_host.runtime.device_filter import Exceptions

from tests.runtime.bundles import Bundle, give_users

pytestmark = pytest.mark.root
_DENY = {"allow": False, "access": "rwm"}


def _allow(major: int, minor: int | None, access: str, kind: str = "c") -> dict[str, Any]:
    entry = {"allow": True, "type": kind, "major": major, "access": access}
    return entry if minor is None else {**entry, "minor": minor}


def test_nodes_as_crun_makes_them(tmp_path: Path) -> None:
    def change(made: dict[str, Any]) -> None:
        made["linux"]["devices"] = [
            {
                "path": "/dev/fuse",
                "type": "c",
                "major": 10,
                "minor": 229,
                "fileMode": 0o640,
                "gid": 7,
            },
            {"path": "/dev/deep/er/disk", "type": "b", "major": 7, "minor": 3, "uid": 5},
            {"path": "/dev/unbuffered", "type": "u", "major": 10, "minor": 200},
            {"path": "/tmp/pipe", "type": "p", "fileMode": 0o622},
        ]

    script = (
        "exec 2>&1; cd /dev; stat -c '%n %F %a %u %g %t %T' fuse deep/er/disk unbuffered /tmp/pipe"
        " null zero full random urandom tty; for l in fd stdin stdout stderr ptmx core; do"
        " readlink $l; done"
    )
    bundle = Bundle(tmp_path)
    ours = bundle.run("sh", "-c", script, change=change)
    assert "fuse character special file 640 0 7 a e5\n" in ours
    (bundle.root / "tmp/pipe").unlink()
    assert ours == bundle.run_by_crun()


def test_a_file_in_the_place_of_a_device_is_an_error(tmp_path: Path) -> None:
    def change(made: dict[str, Any]) -> None:
        made["linux"]["devices"] = [{"path": "/data/f", "type": "c", "major": 1, "minor": 3}]

    with pytest.raises(HostctlError, match="something else is there"):
        Bundle(tmp_path).run("true", change=change)


def test_devices_without_what_they_need_are_errors(tmp_path: Path) -> None:
    for entry in ({"path": "dev/x", "type": "p"}, {"path": "/dev/x", "type": "c"}):
        with pytest.raises(HostctlError, match="cannot make device"):
            Bundle(tmp_path).run(
                "true", change=lambda made, e=entry: made["linux"].update(devices=[e])
            )


def test_a_user_namespace_gets_the_hosts_nodes(tmp_path: Path) -> None:
    for one in (tmp_path, *tmp_path.parents):
        if one.stat().st_mode & 0o777 == 0o700:
            one.chmod(0o711)
    output = Bundle(tmp_path, shifted=True).run(
        "sh", "-c", "echo x > /dev/null && stat -c '%t %T' /dev/null", change=give_users
    )
    assert output == "1 3\n"


@pytest.mark.parametrize("allowed", [False, True])
def test_use_is_what_the_rules_say(tmp_path: Path, allowed: bool) -> None:
    """/dev/kmsg, whose reading the kernel would allow root."""

    def change(made: dict[str, Any]) -> None:
        made["linux"]["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]
        rules = [_DENY, _allow(1, 11, "w")] if allowed else [_DENY]
        made["linux"]["resources"] = {"devices": rules}

    script = "(: > /dev/kmsg) && echo written; (: < /dev/kmsg) || echo unread; echo x > /dev/null && echo null"
    output = Bundle(tmp_path).run("sh", "-c", f"exec 2> /dev/null; {script}", change=change)
    assert output == ("written\n" if allowed else "") + "unread\nnull\n"


def test_rules_come_to_exceptions_in_order() -> None:
    found = Exceptions(
        [
            device_filter.DENY_ALL,
            *device_filter.rules(
                [_allow(1, 11, "r"), _allow(1, 11, "w"), _allow(8, 1, "rwm", "b")]
            ),
            *device_filter.rules([{"allow": False, "type": "b", "major": 8, "access": "w"}])[:1],
        ]
    )
    assert not found.allow
    assert found.access == {("c", 1, 11): "rw", ("b", 8, 1): "rm"}
    with pytest.raises(HostctlError, match="no exception from an exception"):
        Exceptions(
            device_filter.rules(
                [_DENY, _allow(1, None, "rwm"), {**_allow(1, 4, "r"), "allow": False}]
            )
        )
    with pytest.raises(HostctlError, match="cannot restrict devices"):
        device_filter.rules([{"allow": True, "type": "x"}])


def test_an_update_takes_no_device_away_for_a_moment(tmp_path: Path) -> None:
    """On a plain folder: what is written is the difference alone, in version 1's words."""
    (tmp_path / "devices.list").write_text("c 1:3 rwm\nc 9:9 rw\n")
    before = Exceptions(device_filter._listed(str(tmp_path)))
    after = Exceptions([device_filter.DENY_ALL, *device_filter.rules([_allow(1, 3, "rwm")])])
    after.access[("c", 9, 9)] = "r"
    after.access[("c", 7, 7)] = "m"
    changes = [(rule.allow, rule.line()) for rule in after.changes(before)]
    assert changes == [(True, "c 7:7 m"), (False, "c 9:9 w")]


def test_version_1_shows_what_was_set_and_what_changed() -> None:
    hierarchies = cgroup.detect()
    root = hierarchies.v1.get("devices")
    assert root, "this machine has no version 1 devices controller"
    own = cgroup.prepare("hostctl/test-devices", {"devices": [_DENY, _allow(9, 9, "rw")]})
    try:
        listed = Path(root, own.path, "devices.list")
        first = set(listed.read_text().splitlines())
        assert "c 9:9 rw" in first
        assert {rule.line() for rule in device_filter.DEFAULTS} <= first
        cgroup.update(own, {"devices": [_DENY, _allow(9, 9, "r"), _allow(9, 8, "m")]})
        assert set(listed.read_text().splitlines()) == first - {"c 9:9 rw"} | {"c 9:9 r", "c 9:8 m"}
        cgroup.update(own, {"devices": [{"allow": True, "access": "rwm"}]})
        assert listed.read_text() == "a *:* rwm\n"
    finally:
        cgroup.release(own)


def test_version_2_has_one_program_after_each_update() -> None:
    """On the real version 2 hierarchy: replaced, not added, and the last one decides."""
    root = cgroup.detect().v2
    assert root, "this machine has no version 2 hierarchy"
    own = cgroup.Cgroup(f"hostctl-test-{os.getpid()}", cgroup.Hierarchies({}, root))
    cgroup.make(own)
    folder = Path(root, own.path)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        cgroup.set_devices(own, None)
        first = syscalls.device_programs(fd)
        assert len(first) == 1
        assert not _may_read(folder, "/dev/kmsg")
        cgroup.update(own, {"devices": [_DENY, _allow(1, 11, "r")]})
        second = syscalls.device_programs(fd)
        assert len(second) == 1 and second != first
        assert _may_read(folder, "/dev/kmsg")
        # Two programs, as a killed runtime may leave them: one is left.
        syscalls.attach_device_program(fd, device_program.assemble(device_filter.rules([_DENY])))
        assert len(syscalls.device_programs(fd)) == 2
        cgroup.update(own, {"devices": [{"allow": True, "access": "rwm"}]})
        assert len(syscalls.device_programs(fd)) == 1
        assert _may_read(folder, "/dev/kmsg")
    finally:
        os.close(fd)
        cgroup.release(own)


def _may_read(folder: Path, path: str) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            (folder / "cgroup.procs").write_text("0")
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            code = 0
        except PermissionError:
            code = 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 1)
    return code == 0


def test_all_devices_of_the_host(tmp_path: Path) -> None:
    found = {entry["path"]: entry for entry in host_devices.listing()}
    assert found["/dev/null"]["minor"] == 3
    assert not [path for path in found if path.startswith(("/dev/pts/", "/dev/shm/"))]
    assert "/dev/console" not in found
    for path, entry in found.items():
        status = os.lstat(path)
        assert stat.S_ISBLK(status.st_mode) == (entry["type"] == "b"), path
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    assert host_devices.listing(str(tmp_path)) == []
