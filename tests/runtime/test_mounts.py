"""Mounts: what /proc/PID/mountinfo says about every option, and where targets may lead."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import mount_options, targets
from hostctl_host.runtime import syscalls as sys

from tests.runtime.bundles import MAPPING, Bundle, give_users, mountinfo

pytestmark = pytest.mark.root


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o711)
    return Bundle(tmp_path)


def _with(*mounts: dict[str, Any]) -> Any:
    return lambda config: config["mounts"].extend(mounts)


def _entry(target: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
    return {
        "destination": target,
        "type": kind,
        "source": source or kind,
        "options": list(options),
    }


def test_options_as_crun_has_them(bundle: Bundle, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    bundle.write(
        "sleep",
        "100",
        change=_with(
            _entry("/t", "tmpfs", "nosuid", "nodev", "noexec", "noatime", "size=64k", "mode=711"),
            _entry("/t2", "tmpfs", "ro", "size=64k"),
            _entry("/b", "bind", "bind", "ro", "nosuid", source=str(shared)),
            _entry("/b2", "bind", "rbind", "rw", "nodiratime", "noexec", source=str(shared)),
            _entry("/b3/deep", "none", "bind", "nosymfollow", source=str(shared)),
            _entry("/slave", "bind", "rbind", "rslave", source=str(shared)),
        ),
    )
    with bundle.running() as ours:
        mine = mountinfo(ours.pid)
    with bundle.running_by_crun() as pid:
        theirs = mountinfo(pid)

    def essence(fields: list[str]) -> tuple[str, ...]:
        dash = fields.index("-")
        # crun makes the mount read-only, not its file system: from inside it is the same.
        options = ",".join(sorted({*fields[dash + 3].split(",")} - {"ro", "rw"}))
        return (fields[5], fields[dash + 1], options)

    paths = ("/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/t", "/t2", "/b", "/slave")
    for path in paths:
        assert essence(mine[path])[:2] == essence(theirs[path])[:2], path
        assert essence(mine[path])[2] == essence(theirs[path])[2], path
    assert mine["/b2"][5] == "rw,noexec,nodiratime,relatime"
    assert mine["/b3/deep"][5] == "rw,relatime,nosymfollow"


def test_recursive_attributes_reach_what_is_below(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(source / "sub")], check=True)
    try:
        bundle.write(
            "sleep",
            "100",
            change=_with(
                _entry("/plain", "bind", "rbind", "ro", source=str(source)),
                _entry("/all", "bind", "rbind", "rro", "rnosuid", "rnoatime", source=str(source)),
            ),
        )
        with bundle.running() as made:
            found = mountinfo(made.pid)
    finally:
        subprocess.run(["umount", str(source / "sub")], check=True)
    assert found["/plain"][5] == "ro,relatime"
    assert found["/plain/sub"][5] == "rw,relatime"
    assert found["/all"][5] == found["/all/sub"][5] == "ro,nosuid,noatime"


def test_tmpcopyup_shows_the_images_folder(bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["mounts"].append(_entry("/data", "tmpfs", "tmpcopyup", "ro"))

    printed = bundle.run("sh", "-c", "cat /data/f; echo x > /data/g", change=change)
    assert "of the image\n" in printed
    assert "Read-only file system" in printed
    assert not (bundle.root / "data" / "g").exists()


def test_a_read_only_tmpfs_takes_what_is_mounted_below_it(bundle: Bundle) -> None:
    printed = bundle.run(
        "sh",
        "-c",
        "touch /t/x; touch /t/inner/y && echo inner",
        change=_with(_entry("/t", "tmpfs", "ro"), _entry("/t/inner", "tmpfs", "rw")),
    )
    assert "/t/x: Read-only file system" in printed
    assert printed.endswith("inner\n")


def test_propagation_of_the_root(bundle: Bundle) -> None:
    for name, expected in (
        ("shared", "shared:"),
        ("slave", ""),
        ("private", ""),
        ("unbindable", "unbindable"),
        ("rshared", "shared:"),
        ("rslave", ""),
        ("rprivate", ""),
        ("runbindable", "unbindable"),
    ):

        def change(config: dict[str, Any], name: str = name) -> None:
            config["linux"]["rootfsPropagation"] = name

        bundle.write("sleep", "100", change=change)
        with bundle.running() as made:
            tags = mountinfo(made.pid)["/"][6:]
            tags = tags[: tags.index("-")]
        assert [tag for tag in tags if expected and tag.startswith(expected)] or (
            not expected and not any(tag.startswith(("shared", "unbind")) for tag in tags)
        ), (name, tags)


def test_idmapped_mounts_with_a_mapping_of_their_own(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "mapped"
    source.mkdir()
    (source / "mine").touch()
    os.chown(source / "mine", 5, 6)
    mapping = [{"containerID": 0, "hostID": 1000, "size": 100}]
    entry = _entry("/m", "bind", "bind", "idmap", source=str(source))
    entry["uidMappings"] = entry["gidMappings"] = mapping
    assert bundle.run("stat", "-c", "%u:%g", "/m/mine", change=_with(entry)) == "1005:1006\n"
    status = (source / "mine").stat()
    assert (status.st_uid, status.st_gid) == (5, 6)


def test_idmap_takes_the_containers_mapping(tmp_path: Path, bundle: Bundle) -> None:
    shifted = Bundle(tmp_path, shifted=True)
    source = tmp_path / "mapped"
    source.mkdir()
    (source / "mine").touch()
    os.chown(source / "mine", 0, 7)

    def change(config: dict[str, Any]) -> None:
        give_users(config)
        config["mounts"].append(_entry("/m", "bind", "rbind", "ridmap", source=str(source)))

    script = "stat -c %u:%g /m/mine; touch /m/new"
    assert shifted.run("sh", "-c", script, change=change) == "0:7\n"
    assert (source / "new").stat().st_uid == 0


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"type": "tmpfs"}, "no destination"),
        ({"destination": "/x"}, "what to mount"),
        ({"destination": "/x", "type": "bind"}, "no source"),
        (_entry("/x", "bind", "bind", source="/not/there"), "does not exist"),
        (_entry("/x", "bind", "bind", "tmpcopyup", source="/etc"), "tmpcopyup is for tmpfs"),
        (_entry("/x", "bind", "bind", "idmap", source="/etc"), "idmap without a mapping"),
        (_entry("/x", "tmpfs", "idmap"), "only a bind can be idmapped"),
        ({**_entry("/x", "bind", source="/etc"), "uidMappings": MAPPING}, "only users"),
        ({"destination": "/x", "type": "tmpfs", "options": "ro"}, "not a list of texts"),
        ("x", "not an object"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    bundle: Bundle, entry: Any, words: str
) -> None:
    bundle.write("true", change=lambda config: config["mounts"].append(entry))
    with pytest.raises(HostctlError, match=words):
        bundle.create()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{bundle.path}"))


def test_what_the_kernel_refuses_names_the_mount(bundle: Bundle) -> None:
    bundle.write("true", change=_with(_entry("/x", "tmpfs", "fancy=1")))
    with pytest.raises(HostctlError, match="cannot mount tmpfs at /x") as caught:
        bundle.create()
    assert "fancy=1" in caught.value.hint


def test_relative_targets_start_at_the_root() -> None:
    mount = mount_options.parse({"destination": "x/y", "type": "tmpfs"})
    assert mount.destination == "/x/y"


def test_options_in_order_undo_each_other() -> None:
    entry = _entry("/x", "bind", "rro", "rrw", "ratime", "rnoatime", "lazytime", "x-gvfs")
    mount = mount_options.parse(entry)
    assert mount.set_recursive == sys.MOUNT_ATTR_NOATIME
    assert mount.clear_recursive == sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR__ATIME
    assert mount.set_flags & sys.MS_LAZYTIME
    assert mount.data == "x-gvfs"


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "up").symlink_to("../../../real")
    (root / "etc").mkdir()
    (root / "etc" / "resolv.conf").symlink_to("../run/stub/resolv.conf")
    (root / "away").symlink_to("/outside/of/it")
    (root / "loop").symlink_to("loop")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for path, lands, folder in (
            ("/up/new", "real/new", True),
            ("/etc/resolv.conf", "run/stub/resolv.conf", False),
            ("/away/deep", "outside/of/it/deep", True),
            ("/../../x", "x", True),
        ):
            found = targets.target_fd(fd, path, folder=folder)
            assert os.path.samestat(os.fstat(found), (root / lands).stat()), path
            os.close(found)
        with pytest.raises(OSError, match="symbolic links"):
            targets.target_fd(fd, "/loop/x", folder=True)
        with pytest.raises(OSError, match="symbolic links"):
            targets.target_fd(fd, "/up", folder=True, straight=True)
    finally:
        os.close(fd)
    assert not (tmp_path / "outside").exists()


def test_remount_changes_what_is_there(bundle: Bundle) -> None:
    bundle.write(
        "sleep",
        "100",
        change=_with(_entry("/proc", "none", "remount", "bind", "ro", source="proc")),
    )
    with bundle.running() as made:
        assert mountinfo(made.pid)["/proc"][5] == "ro,nosuid,nodev,noexec,relatime"


def test_cgroups_of_a_container_without_their_namespace_are_its_own(bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].remove({"type": "cgroup"})
        config["mounts"].append(_entry("/sys/fs/cgroup", "cgroup", "ro"))

    bundle.write("sleep", "100", change=change)
    with bundle.running() as made:
        found = mountinfo(made.pid)
    inside = {path: fields for path, fields in found.items() if path.startswith("/sys/fs/cgroup/")}
    assert inside
    for path, fields in inside.items():
        assert fields[3] == f"/{bundle.path}", path
        assert fields[5].startswith("ro,"), path
