"""The kind `volume`: made, kept, and removed without touching anything else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hostctl_host import volume
from hostctl_host.agent.host import Host, Paths
from hostctl_host.contract.errors import CannotApply, CannotObserve


def apply(host: Host, **spec: Any) -> list[tuple[str, str]]:
    """observe, diff, apply; it has to converge."""
    wanted = volume.Spec(**spec)
    seen = volume.observe(wanted, host)
    changes = volume.diff(wanted, seen)
    if changes:
        volume.apply(wanted, seen, changes, host)
    assert volume.diff(wanted, volume.observe(wanted, host)) == []
    return [(change.action.value, change.field) for change in changes]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(paths=Paths(str(tmp_path / "data"), str(tmp_path / "run")), project="shop")


def test_a_volume_is_made_once_and_its_data_stays(host: Host) -> None:
    assert apply(host, name="shop_data") == [("create", "")]
    folder = Path(host.paths.volume("shop_data"))
    (folder / "_data" / "file").write_text("content")
    (folder / "_data").chmod(0o1777)
    assert apply(host, name="shop_data") == []
    assert apply(host, name="shop_data", labels={"a": "b"}) == [("update", "labels")]
    assert (folder / "_data" / "file").read_text() == "content"
    assert folder.stat().st_mode & 0o7777 == 0o700
    # What a container did to its volume is the container's business.
    assert (folder / "_data").stat().st_mode & 0o7777 == 0o1777


def test_the_data_folder_can_be_entered_whatever_the_umask(host: Host) -> None:
    before = os.umask(0o077)
    try:
        apply(host, name="shop_data")
    finally:
        os.umask(before)
    assert Path(host.paths.volume("shop_data"), "_data").stat().st_mode & 0o7777 == 0o755


def test_a_half_made_volume_is_finished(host: Host) -> None:
    Path(host.paths.volume("shop_data"), "_data").mkdir(parents=True)
    assert apply(host, name="shop_data") == [("update", "folder")]


def test_removal_follows_no_link(host: Host, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("content")
    apply(host, name="shop_data")
    os.symlink(kept, Path(host.paths.volume("shop_data"), "_data", "link"))
    assert apply(host, name="shop_data", state="absent") == [("delete", "")]
    assert (kept / "file").read_text() == "content"
    assert list(Path(host.paths.data, "volumes").iterdir()) == []


def test_what_a_killed_removal_left_is_removed_with_the_next(host: Host) -> None:
    apply(host, name="shop_data")
    folder = Path(host.paths.volume("shop_data"))
    trash = folder.with_name(".trash-shop_data")
    (trash / "_data").mkdir(parents=True)
    apply(host, name="shop_data", state="absent")
    assert list(Path(host.paths.data, "volumes").iterdir()) == []


@pytest.mark.root
def test_a_volume_with_a_mount_inside_is_not_removed(host: Host) -> None:
    apply(host, name="shop_data")
    inside = Path(host.paths.volume("shop_data"), "_data", "mnt")
    inside.mkdir()
    os.system(f"mount -t tmpfs none {inside}")
    try:
        with pytest.raises(CannotApply, match="is mounted inside it") as refused:
            apply(host, name="shop_data", state="absent")
        assert refused.value.ref == "volume-in-use"
    finally:
        os.system(f"umount {inside}")
    assert inside.is_dir()


def test_external_volumes_are_used_and_never_made(host: Host) -> None:
    with pytest.raises(CannotObserve, match="it is external and does not exist"):
        apply(host, name="shared", external=True)
    apply(host, name="shared")
    assert apply(host, name="shared", external=True, labels={"a": "b"}) == []
    assert apply(host, name="shared", external=True, state="absent") == []


def test_undo_removes_only_what_was_made(host: Host) -> None:
    spec = volume.Spec(name="shop_data")
    back = volume.undo(spec, volume.observe(spec, host), host)
    assert back == volume.Spec(name="shop_data", state="absent")
    apply(host, name="shop_data")
    assert volume.undo(spec, volume.observe(spec, host), host) is None


def test_other_drivers_are_not_supported_yet(host: Host) -> None:
    with pytest.raises(CannotObserve, match="driver nfs is not supported yet"):
        apply(host, name="shop_data", driver="nfs")
