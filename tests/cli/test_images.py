"""The image verbs: one story on this machine without SSH; and several hosts, whose agents answer from memory."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from test_containers import fleet, row

from hostctl.cli.images_on import parse_filters, size_text

__all__ = ["fleet"]


@pytest.fixture
def here(tmp_path: Path) -> tuple[str, str]:
    """Options for one host: this machine, with folders of its own."""
    (tmp_path / "root.tar").write_bytes(root_tar())
    (tmp_path / "here.yml").write_text(
        "all: {hosts: {localhost: {ansible_connection: local, "
        f"hostctl_data_dir: {tmp_path}/data, hostctl_run_dir: {tmp_path}/run}}}}}}\n"
    )
    return ("--inventory", str(tmp_path / "here.yml"))


def root_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("etc/motd")
        info.size = 3000
        archive.addfile(info, io.BytesIO(b"x" * 3000))
    return stream.getvalue()


@pytest.mark.root
def test_a_story_of_one_image(
    hostctl: Callable, here: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*args: str) -> str:
        ended = hostctl(*args, *here)
        assert ended.code == 0, ended.err
        return str(ended.out)

    image_id = run("import", "root.tar", "shop/web:1", "-m", "by hand").strip()
    assert image_id.startswith("sha256:")
    assert run("tag", "shop/web:1", "shop/web:2") == ""
    lines = run("images", "--format", "json").splitlines()
    assert [json.loads(line)["Tag"] for line in lines] == ["1", "2"]
    assert run("images", "-q", "--no-trunc").strip() == image_id
    assert run("image", "ls", "nothing/*").splitlines()[1:] == []
    assert "by hand" in run("history", "shop/web:2")
    (found,) = json.loads(run("image", "inspect", image_id[7:15]))
    assert found["RepoTags"] == ["shop/web:1", "shop/web:2"]
    run("save", "-o", "s.tar", "shop/web:1", "shop/web:2")
    assert run("rmi", "shop/web:2") == "Untagged: shop/web:2\n"
    assert run("image", "rm", "shop/web:1").endswith(f"Deleted: {image_id}\n")
    assert run("images").splitlines()[1:] == []
    assert run("load", "-i", "s.tar").splitlines() == [
        "Loaded image: shop/web:1",
        "Loaded image: shop/web:2",
    ]
    df = run("system", "df")
    assert df.splitlines()[1].split()[:3] == ["Images", "1", "0"]
    assert "UNIQUE SIZE" in run("system", "df", "-v")
    dry = run("image", "prune", "-a", "--dry-run")
    assert run("system", "prune", "-af").replace("Total reclaimed space:", "Would reclaim") == dry
    ended = hostctl("image", "inspect", "shop/web:1", *here)
    assert (ended.code, json.loads(ended.out)) == (2, [])
    assert "cannot find the image shop/web:1" in ended.err
    assert not (tmp_path / ".s.tar.hostctl").exists()


def listed(tag: str) -> tuple[dict, bytes]:
    return row(
        name=f"shop/web:{tag}",
        repository="shop/web",
        tag=tag,
        id="ab" * 32,
        digest=f"sha256:{'cd' * 32}",
        created="2026-01-01T00:00:00Z",
        age="2 days ago",
        size=1_234_567,
        labels={},
        containers=[],
        releases=[],
    )


def test_images_of_several_hosts(hostctl: Callable, fleet: dict) -> None:
    fleet["web1"].frames = [listed("1")]
    fleet["web2"].frames = [listed("2")]
    ended = hostctl("images")
    assert ended.out == (
        "HOST   REPOSITORY   TAG   IMAGE ID       CREATED      SIZE\n"
        "web1   shop/web     1     abababababab   2 days ago   1.23MB\n"
        "web2   shop/web     2     abababababab   2 days ago   1.23MB\n"
    )
    assert hostctl("images", "-q").out == "abababababab\n"
    assert list(json.loads(hostctl("images", "--json").out)["hosts"]) == ["web1", "web2"]
    assert "sha256:cdcd" in hostctl("images", "--digests").out


def test_a_host_without_the_image_is_no_failure(hostctl: Callable, fleet: dict) -> None:
    fleet["web1"].error = HostctlError("cannot find the image a", ref="no-image")
    fleet["web2"].frames = [row(untagged="a:latest")]
    ended = hostctl("rmi", "a")
    assert (ended.code, ended.out) == (0, "Untagged: a:latest\n")
    fleet["web2"].error = HostctlError("cannot find the image a", ref="no-image")
    assert hostctl("rmi", "a").code == 2


def test_prune_asks_on_a_terminal_only(hostctl: Callable, fleet: dict) -> None:
    ended = hostctl("image", "prune")
    assert ended.code == 1
    assert "hostctl image prune --yes" in ended.err
    assert fleet["web1"].asked is None


def test_filters_are_checked_before_a_host_is_asked(hostctl: Callable, fleet: dict) -> None:
    for wrong in ("until", "color=red", "until=soon"):
        ended = hostctl("image", "prune", "--dry-run", "--filter", wrong)
        assert ended.code == 1
    assert fleet["web1"].asked is None
    assert parse_filters(["label=a=b"], ("label",)) == [("label", "a=b")]
    assert float(parse_filters(["until=1970-01-02T00:00:00+00:00"], ("until",))[0][1]) == 86400


def test_sizes_as_docker_writes_them() -> None:
    sizes = [0, 3, 999, 1000, 10_900, 1_234_567, 187_000_000, 12_345_678_900]
    assert [size_text(size) for size in sizes] == [
        "0B",
        "3B",
        "999B",
        "1kB",
        "10.9kB",
        "1.23MB",
        "187MB",
        "12.3GB",
    ]


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, b"\x1f\x8bbroken"])
def test_what_is_no_archive_is_told_before_a_host_is_asked(
    hostctl: Callable, fleet: dict, tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "x").write_bytes(data)
    ended = hostctl("load", "-i", "x")
    assert ended.code == 1
    assert "cannot read" in ended.err
    assert fleet["web1"].asked is None


@pytest.mark.parametrize("group", ["image", "system"])
def test_groups_list_their_verbs(hostctl: Callable, group: str) -> None:
    assert "prune" in hostctl(group, "--help").out
    assert hostctl(group, "nonsense").code == 1
