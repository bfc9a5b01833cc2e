"""Runs in tests: volumes of real containers: parts, options, and file systems of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hostctl_host import container, volume
from hostctl_host.contract.change import Action
from hostctl_host.contract.errors import CannotApply, HostctlError
from hostctl_host.contract.storage import Mount
from hostctl_host.monitor import client
from hostctl_host.runtime import sources

from .shop import Shop, data

pytestmark = pytest.mark.root


def image_folder(shop: Shop, path: str = "srv") -> None:
    """A folder of the image with owners, modes and a link."""
    folder = shop.layer / path
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("from the image\n")
    os.chown(folder / "sub" / "file", 1000, 44)
    os.chmod(folder / "sub" / "file", 0o640)
    os.symlink("sub/file", folder / "link")
    os.chown(folder, 1000, 1000)
    os.chmod(folder, 0o2750)


def look(folder: Path) -> list[tuple[str, int, int, str]]:
    """(path, owner, group, mode) of everything."""
    found = []
    for path in (folder, *sorted(folder.rglob("*"))):
        status = os.lstat(path)
        found.append(
            (str(path.relative_to(folder)), status.st_uid, status.st_gid, oct(status.st_mode))
        )
    return found


# filled from the image


def test_a_new_volume_has_the_images_content_owners_and_modes(shop: Shop) -> None:
    image_folder(shop)
    shop.volume("data")
    out = shop.run("web", "cat /srv/link", volumes=(Mount("/srv", source="test_data"),))
    assert out == "from the image\n"
    assert look(data(shop, "data")) == look(shop.layer / "srv")
    assert not list(Path(shop.paths.volume("test_data")).glob("*.filling"))


def test_one_that_holds_something_is_left_as_it_is(shop: Shop) -> None:
    image_folder(shop)
    shop.volume("data")
    (data(shop, "data") / "own").write_text("x")
    shop.run("web", "true", volumes=(Mount("/srv", source="test_data"),))
    assert [path.name for path in data(shop, "data").iterdir()] == ["own"]
    assert data(shop, "data").stat().st_mode & 0o7777 == 0o755


def test_nocopy_and_binds_stay_empty(shop: Shop, tmp_path: Path) -> None:
    image_folder(shop)
    shop.volume("data")
    mounts = (
        Mount("/srv", source="test_data", nocopy=True),
        Mount("/srv2", "bind", str(tmp_path / "made")),
    )
    assert shop.run("web", "ls -A /srv /srv2", volumes=mounts).split() == ["/srv:", "/srv2:"]
    assert (tmp_path / "made").is_dir()


def test_volumes_that_the_image_declares_are_anonymous_ones_and_are_kept(shop: Shop) -> None:
    image_folder(shop)
    shop.image["config"]["Volumes"] = {"/srv/": {}, "/var/db": {}}
    shop.volume("data")
    spec = shop.spec("web", volumes=(Mount("/var/db", source="test_data"),))
    shop.converge(container, spec)
    root = shop.root(spec.name)
    assert (root / "srv/sub/file").read_text() == "from the image\n"
    (root / "srv" / "mine").write_text("kept")
    shop.converge(container, replace(spec, environment={"A": "1"}))
    assert (shop.root(spec.name) / "srv/mine").read_text() == "kept"
    assert len(list(Path(shop.paths.container(spec.name), "anonymous").iterdir())) == 1
    shop.converge(container, replace(spec, state="absent"))
    assert not os.path.exists(shop.paths.container(spec.name))


# parts of volumes


def test_a_subpath_is_all_that_the_container_gets(shop: Shop) -> None:
    shop.volume("data")
    (data(shop, "data") / "a" / "b").mkdir(parents=True)
    (data(shop, "data") / "a" / "b" / "file").write_text("deep\n")
    (data(shop, "data") / "a" / "one").write_text("single\n")
    os.symlink("a/b", data(shop, "data") / "inside")
    mounts = (
        Mount("/m", source="test_data", subpath="a/b"),
        Mount("/f", source="test_data", subpath="a/one", read_only=True),
        Mount("/i", source="test_data", subpath="inside"),
    )
    script = "cat /m/file /f /i/file; ls /m/..; echo x > /f || echo refused"
    out = shop.run("web", script, volumes=mounts)
    assert out.startswith("deep\nsingle\ndeep\n") and "refused" in out


@pytest.mark.parametrize(
    ("make", "subpath", "wanted"),
    [
        (lambda folder: os.symlink("/etc", folder / "out"), "out", "leads out of the volume"),
        (lambda folder: os.symlink("../..", folder / "out"), "out/x", "leads out of the volume"),
        (
            lambda folder: os.symlink("/etc", folder / "out"),
            "out/passwd",
            "leads out of the volume",
        ),
        (lambda folder: None, "../../../etc", "leads out of the volume"),
        (lambda folder: None, "missing", "No such file or directory"),
    ],
)
def test_a_subpath_that_leads_out_is_refused(
    shop: Shop, make: object, subpath: str, wanted: str
) -> None:
    shop.volume("data")
    make(data(shop, "data"))  # type: ignore[operator]
    with pytest.raises(HostctlError, match=wanted):
        shop.run("web", "true", volumes=(Mount("/m", source="test_data", subpath=subpath),))


# options of binds


def test_propagation_of_a_bind(shop: Shop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.system(f"mount -t tmpfs none {outside} && mount --make-shared {outside}")
    try:
        (outside / "later").mkdir()
        mounts = (
            Mount("/slave", "bind", str(outside), propagation="rslave"),
            Mount("/private", "bind", str(outside)),
        )
        spec = shop.spec("web", volumes=mounts)
        shop.converge(container, spec)
        os.system(f"mount -t tmpfs none {outside}/later && touch {outside}/later/file")
        root = shop.root(spec.name)
        assert os.listdir(root / "slave/later") == ["file"]
        assert os.listdir(root / "private/later") == []
        assert any(word.startswith("master:") for word in shop.mounts(spec.name)["/slave"])
        client.stop(shop.paths, spec.name)
    finally:
        os.system(f"umount -R {outside}")


def test_what_comes_along_with_a_bind(shop: Shop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    os.system(f"mount -t tmpfs none {outside}/sub")
    try:
        mounts = (
            Mount("/all", "bind", str(outside), read_only=True),
            Mount("/none", "bind", str(outside), recursive="disabled"),
            Mount("/writable", "bind", str(outside), read_only=True, recursive="writable"),
            Mount("/readonly", "bind", str(outside), read_only=True, recursive="readonly"),
        )
        spec = shop.spec("web", volumes=mounts)
        shop.converge(container, spec)
        found = shop.mounts(spec.name)
        access = {name: line[5].split(",")[0] for name, line in found.items()}
        assert "/none/sub" not in access and "/none" in access
        assert (access["/all"], access["/all/sub"]) == ("ro", "ro")
        assert (access["/writable"], access["/writable/sub"]) == ("ro", "rw")
        assert (access["/readonly"], access["/readonly/sub"]) == ("ro", "ro")
        client.stop(shop.paths, spec.name)
    finally:
        os.system(f"umount -R {outside}/sub")


def test_a_missing_source_is_made_or_refused(shop: Shop, tmp_path: Path) -> None:
    missing = tmp_path / "deep" / "missing"
    mount = Mount("/m", "bind", str(missing), create_host_path=False)
    with pytest.raises(CannotApply, match="there is no such path") as refused:
        shop.run("web", "true", volumes=(mount,))
    assert refused.value.ref == "mount-source-missing" and not missing.parent.exists()
    # Over SSH the agent has this umask; a program that does not run as root is to get in all the same.
    before = os.umask(0o077)
    try:
        shop.run("web", "true", volumes=(replace(mount, create_host_path=True),))
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o777) for path in (missing, missing.parent)] == ["0o755"] * 2


def test_labels_of_selinux_are_for_hosts_that_have_it(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = (Mount("/m", "bind", str(tmp_path / "x"), selinux="Z"),)
    shop.run("web", "true", volumes=mounts)
    monkeypatch.setattr(sources, "SELINUX", "/")
    with pytest.raises(CannotApply, match="not supported yet on a host with SELinux"):
        shop.run("other", "true", volumes=mounts)


def test_a_tmpfs_has_its_size_and_mode(shop: Shop) -> None:
    mounts = (Mount("/m", "tmpfs", tmpfs_size=1 << 20, tmpfs_mode=0o700),)
    out = shop.run("web", "stat -c %a /m; df -k /m | tail -1 | awk '{print $2}'", volumes=mounts)
    assert out.split() == ["700", "1024"]


# file systems of their own


def test_a_bound_folder_is_the_volume(shop: Shop, tmp_path: Path) -> None:
    image_folder(shop)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    options = {"type": "none", "o": "bind", "device": str(folder)}
    shop.volume("data", driver_opts=options)
    shop.run("web", "echo hello > /srv/new", volumes=(Mount("/srv", source="test_data"),))
    assert (folder / "new").read_text() == "hello\n"
    # Filled as in Docker, and nothing of hostctl's is left beside somebody else's folder.
    assert (folder / "sub/file").read_text() == "from the image\n"
    assert [path.name for path in tmp_path.glob("elsewhere*")] == ["elsewhere"]
    shop.converge(volume, volume.Spec("test_data", state="absent"))
    assert (folder / "new").exists()


def test_a_bound_folder_that_is_missing(shop: Shop) -> None:
    shop.volume("data", driver_opts={"type": "none", "o": "bind", "device": "/nowhere/at-all"})
    with pytest.raises(CannotApply, match="its device /nowhere/at-all does not exist"):
        shop.run("web", "true", volumes=(Mount("/m", source="test_data"),))


def test_a_tmpfs_volume_lives_in_the_containers_mount_namespace_only(shop: Shop) -> None:
    image_folder(shop)
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=2m,uid=1000,mode=0750,noexec"}
    shop.volume("data", driver_opts=options)
    spec = shop.spec("web", volumes=(Mount("/srv", source="test_data"),))
    before = Path("/proc/self/mountinfo").read_text()
    shop.converge(container, spec)
    line = shop.mounts(spec.name)["/srv"]
    assert line[line.index("-") + 1] == "tmpfs" and "size=2048k" in line[-1]
    assert "noexec" in line[5]
    assert (shop.root(spec.name) / "srv/sub/file").read_text() == "from the image\n"
    assert Path("/proc/self/mountinfo").read_text() == before
    (shop.root(spec.name) / "srv" / "gone").write_text("x")
    pid = client.status(shop.paths, spec.name).pid
    os.kill(pid, 9)
    from tests.runtime.workshop import until

    until(lambda: client.status(shop.paths, spec.name).status == "exited")
    assert not list(data(shop, "data").iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A block device with a file system: a loop over a file."""
    file = tmp_path / "disk.img"
    with open(file, "wb") as stream:
        stream.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(file)], check=True)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=True
    )
    device = done.stdout.strip()
    yield device
    subprocess.run(["losetup", "-d", device], check=True)


def test_two_containers_share_the_file_system_of_a_device(shop: Shop, disk: str) -> None:
    shop.volume("data", driver_opts={"type": "ext4", "device": disk, "o": "noatime"})
    mounts = (Mount("/m", source="test_data"),)
    first, second = shop.spec("one", volumes=mounts), shop.spec("two", volumes=mounts)
    shop.converge(container, first)
    shop.converge(container, second)
    (shop.root(first.name) / "m/file").write_text("shared")
    assert (shop.root(second.name) / "m/file").read_text() == "shared"
    line = shop.mounts(first.name)["/m"]
    assert line[-2] == disk and "noatime" in line[5]
    assert disk not in Path("/proc/self/mountinfo").read_text()
    for spec in (first, second):
        client.stop(shop.paths, spec.name)
    with pytest.raises(HostctlError, match=r"cannot mount the volume test_data \(ext4"):
        shop.volume("data", driver_opts={"type": "ext4", "device": "/dev/null"})
        shop.run("three", "true", volumes=mounts)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            {"type": "nfs", "device": ":/export", "o": "addr=127.0.0.1,vers=4"},
            "cannot mount the volume test_data .nfs, :/export.: No such device",
        ),
        (
            {"type": "nfs", "device": "no-such-host.invalid:/export"},
            "the address of no-such-host.invalid cannot be found",
        ),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=what"}, "Bad value for 'size'"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "what=1"}, "Unknown parameter 'what'"),
    ],
)
def test_what_cannot_be_mounted_says_why_in_the_kernels_words(
    shop: Shop, options: dict[str, str], wanted: str
) -> None:
    shop.volume("data", driver_opts=options)
    with pytest.raises(HostctlError, match=wanted):
        shop.run("web", "true", volumes=(Mount("/m", source="test_data"),))


def test_other_driver_options_replace_the_containers_that_mount_it(shop: Shop) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=2m"}
    shop.volume("data", driver_opts=options)
    mounts = (Mount("/m", source="test_data"),)
    spec, other = shop.spec("web", volumes=mounts), shop.spec("other")
    shop.converge(container, spec)
    shop.converge(container, other)
    wanted = volume.Spec("test_data", driver_opts={**options, "o": "size=4m"})
    (change,) = shop.plan(volume, wanted)
    assert change.field == "driver_opts"
    assert [(c.action, c.field) for c in shop.plan(container, spec)] == [
        (Action.REPLACE, "volume data")
    ]
    assert shop.plan(container, other) == []
    shop.converge(volume, wanted)
    shop.converge(container, spec)
    assert "size=4096k" in shop.mounts(spec.name)["/m"][-1]
