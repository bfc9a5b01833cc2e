"""User namespaces: what /proc says about owners, with the root as it is and with idmapped layers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import idmap, syscalls

from tests.runtime.bundles import MAPPING, Bundle, fill_root, give_users, mountinfo, status

pytestmark = pytest.mark.root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for one in (tmp_path, *tmp_path.parents):
        if one.stat().st_mode & 0o777 == 0o700:
            one.chmod(0o711)
    return tmp_path


def test_as_crun_makes_it(folder: Path) -> None:
    bundle = Bundle(folder, shifted=True)
    script = (
        "exec 2>&1; id; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups;"
        " grep -E '^(Cap|Uid|Gid|Groups|NoNew)' /proc/self/status; ls -ln / | awk '{print $1,$3,$4,$9}';"
        " hostname other && hostname; ls /dev; stat -c '%n %t %T' /dev/null /dev/zero;"
        " awk '{print $5,$6,$9}' /proc/self/mountinfo | grep -v '^/ ' | grep -v /dev/ | sort"
    )
    ours = bundle.run("sh", "-c", script, change=give_users)
    assert ours == bundle.run_by_crun()
    assert "0     200000      65536" in ours


def test_namespaces_belong_to_it(folder: Path) -> None:
    bundle = Bundle(folder, shifted=True)
    bundle.write("sleep", "100", change=give_users)
    with bundle.running() as made:
        assert Path(f"/proc/{made.pid}/uid_map").read_text().split() == ["0", "200000", "65536"]
        assert status(made.pid, "Uid") == "200000 200000 200000 200000"
        for kind in ("user", "pid", "mnt", "net", "uts", "ipc", "cgroup"):
            mine, own = (os.readlink(f"/proc/{who}/ns/{kind}") for who in (made.pid, "self"))
            assert mine != own, kind
        for line in Path(f"/proc/{made.pid}/cgroup").read_text().splitlines():
            assert line.endswith(f"/{bundle.path}"), line
        assert os.listdir(f"/proc/{made.pid}/fd") == ["0", "1", "2"]


def test_layers_of_the_hosts_root_are_its_own_roots(folder: Path) -> None:
    layer, private = folder / "l1", folder / "private"
    fill_root(layer)
    private.mkdir(mode=0o700)  # nobody but the host's root may even look
    bundle = Bundle(private)
    overlay = {
        "cwd": str(folder),
        "lower": ["l1"],
        "upper": str(private / "upper"),
        "work": str(private / "work"),
    }
    for name in ("upper", "work"):
        (private / name).mkdir()

    def change(config: dict[str, Any]) -> None:
        give_users(config)
        config["annotations"] = {"hostctl.overlay": json.dumps(overlay)}

    script = "stat -c %u:%g /bin /data/f; echo new > /data/f; touch /made; stat -c %u:%g /made"
    assert bundle.run("sh", "-c", script, change=change) == "0:0\n0:0\n0:0\n"
    # On disk nothing is shifted, and the layer is what it was.
    assert (private / "upper" / "made").stat().st_uid == 0
    assert (private / "upper" / "data" / "f").read_text() == "new\n"
    assert (layer / "data" / "f").read_text() == "of the image\n"
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def test_binds_from_folders_that_only_the_hosts_root_may_enter(folder: Path) -> None:
    secret = folder / "secret"
    secret.mkdir(mode=0o700)
    (secret / "f").write_text("hello\n")
    bundle = Bundle(folder, shifted=True)

    def change(config: dict[str, Any]) -> None:
        give_users(config)
        config["mounts"].append(
            {
                "destination": "/f",
                "type": "bind",
                "source": str(secret / "f"),
                "options": ["bind", "ro"],
            }
        )

    printed = bundle.run("sh", "-c", "cat /f; mount -o remount,bind,rw /f", change=change)
    assert printed.startswith("hello\n")
    assert "denied" in printed or "permitted" in printed


def test_binds_and_layers_without_mount_setattr(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Linux 5.10: what is copied for it needs nothing newer."""

    def missing(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, "simulated")

    monkeypatch.setattr(syscalls, "mount_setattr", missing)
    layer, source = folder / "l1", folder / "source"
    fill_root(layer)
    source.mkdir(mode=0o700)
    (source / "f").write_text("hello\n")
    private = folder / "private"
    for part in ("upper", "work"):
        (private / part).mkdir(parents=True)
    bundle = Bundle(private)
    subprocess.run(
        ["chown", "-hR", "200000:200000", str(layer), str(private / "upper")], check=True
    )
    overlay = {"cwd": str(folder), "lower": ["l1"], "shifted": True}
    overlay.update({part: str(private / part) for part in ("upper", "work")})

    def change(config: dict[str, Any]) -> None:
        give_users(config)
        config["annotations"] = {"hostctl.overlay": json.dumps(overlay)}
        for target, what in (("/f", source / "f"), ("/d", source)):
            entry = {"destination": target, "type": "bind", "source": str(what)}
            config["mounts"].append({**entry, "options": ["rbind", "ro", "nosuid"]})

    script = (
        "exec 2>&1; cat /f; stat -c %u:%g /bin /dev/null /f; touch /made; grep -E ' /(f|d) ' /proc/self/mountinfo"
        " | cut -d' ' -f5,6; mount -o remount,bind,rw /f"
    )
    printed = bundle.run("sh", "-c", script, change=change).splitlines()
    assert printed[:4] == ["hello", "0:0", "0:0", "65534:65534"]
    assert [line.split(",")[:2] for line in printed[4:6]] == [
        ["/f ro", "nosuid"],
        ["/d ro", "nosuid"],
    ]
    assert "denied" in printed[6] or "permitted" in printed[6]
    assert (private / "upper" / "made").stat().st_uid == 200000
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def test_limits_and_scores_are_set_before_the_rights_are_gone(folder: Path) -> None:
    bundle = Bundle(folder, shifted=True)

    def change(config: dict[str, Any]) -> None:
        give_users(config)
        config["process"]["oomScoreAdj"] = 5
        config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 77}]

    bundle.write("sleep", "100", change=change)
    with bundle.running() as made:
        assert Path(f"/proc/{made.pid}/oom_score_adj").read_text() == "5\n"
        limits = Path(f"/proc/{made.pid}/limits").read_text()
        assert next(line for line in limits.splitlines() if "core" in line).split()[4:6] == [
            "0",
            "77",
        ]


def test_two_containers_share_one(folder: Path) -> None:
    first, second = Bundle(folder, shifted=True), Bundle(folder, shifted=True)
    first.write("sleep", "100", change=give_users)
    with first.running() as made:

        def change(config: dict[str, Any]) -> None:
            paths = {"user": "user", "network": "net", "ipc": "ipc", "pid": "pid"}
            config["linux"]["namespaces"] = [
                {"type": kind, "path": f"/proc/{made.pid}/ns/{name}"}
                for kind, name in paths.items()
            ] + [{"type": kind} for kind in ("mount", "uts", "cgroup")]

        second.write("sleep", "100", change=change)
        with second.running() as other:
            for kind in ("user", "net", "ipc", "pid"):
                mine, theirs = (
                    os.readlink(f"/proc/{who}/ns/{kind}") for who in (made.pid, other.pid)
                )
                assert mine == theirs, kind
            assert status(other.pid, "Uid").startswith("200000")
            assert mountinfo(other.pid)["/proc"]


def test_a_network_of_the_host_leaves_the_hosts_sysfs(folder: Path) -> None:
    bundle = Bundle(folder, shifted=True)

    def change(config: dict[str, Any]) -> None:
        give_users(config)
        config["linux"]["namespaces"].remove({"type": "network"})

    bundle.write("sleep", "100", change=change)
    with bundle.running() as made:
        assert mountinfo(made.pid)["/sys"][5].startswith("ro,nosuid,nodev,noexec")
        assert os.readlink(f"/proc/{made.pid}/ns/net") == os.readlink("/proc/self/ns/net")


@pytest.mark.parametrize(
    ("uids", "gids", "words"),
    [
        (None, None, "no linux.uidMappings"),
        (MAPPING, None, "no linux.gidMappings"),
        ([{"containerID": 0, "hostID": 1}], MAPPING, "lacks containerID"),
        ([{"containerID": 0, "hostID": 1, "size": 0}], MAPPING, "impossible range"),
        ([{"containerID": 0, "hostID": 1 << 32, "size": 1}], MAPPING, "impossible range"),
        ([*MAPPING, {"containerID": 5, "hostID": 1, "size": 1}], MAPPING, "overlap at 5"),
        ([{"containerID": "0", "hostID": 1, "size": 1}], MAPPING, "than numbers"),
    ],
)
def test_impossible_mappings(tmp_path: Path, uids: Any, gids: Any, words: str) -> None:
    linux = {"uidMappings": uids, "gidMappings": gids}
    with pytest.raises(HostctlError, match=words):
        idmap.prepare({"linux": linux}, new=True, joined=False)


def test_mappings_without_a_namespace() -> None:
    with pytest.raises(HostctlError, match="need a user namespace"):
        idmap.prepare({"linux": {"uidMappings": MAPPING}}, new=False, joined=False)
