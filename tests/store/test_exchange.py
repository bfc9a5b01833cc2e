"""Archives both ways between hostctl and skopeo, umoci and podman: digests stay what they are."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host.agent.host import Host, Paths
from hostctl_host.contract.errors import HostctlError
from hostctl_host.store.store import Store

from tests.store import calls
from tests.store.layers import TestImage, member, tar
from tests.store.test_archive import docker_save, layout

pytestmark = pytest.mark.root


def tool(*argv: object, **env: str) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shop(version: str = "1") -> TestImage:
    base = tar(
        member("etc/", mode=0o755),
        member("etc/os", b"debian"),
        member("etc/gone", b"x"),
        member("d/"),
        member("d/below", b"below"),
        member("bin/"),
        member("bin/su", b"\x7fELF", mode=0o4755, gid=42),
        member("bin/hard", kind=tarfile.LNKTYPE, link="bin/su"),
    )
    top = tar(
        member("etc/.wh.gone", b""),
        member("etc/version", version.encode()),
        member("d/"),
        member("d/.wh..wh..opq", b""),
        member("d/above", b"above"),
    )
    return TestImage([base, top], config={"Cmd": ["sh"], "Env": ["A=1"]})


@pytest.fixture
def made(host: Host, tmp_path: Path) -> Iterator[TestImage]:
    """An image that the host has as `shop/web:1`, and `shop/also:2`."""
    image = shop()
    path = tmp_path / "made.tar"
    path.write_bytes(
        tar(*(member(n, d) for n, d in layout(image, names=("docker.io/shop/web:1",)).items()))
    )
    calls.load(host, path)
    calls.call(host, "tag", source="shop/web:1", target="shop/also:2")
    yield image


@pytest.fixture
def other(tmp_path: Path) -> Host:
    """A second, empty host."""
    return Host(paths=Paths(str(tmp_path / "other"), str(tmp_path / "other-run")))


def test_skopeo_reads_what_save_writes(host: Host, made: TestImage, tmp_path: Path) -> None:
    archive = calls.save(host, tmp_path / "s.tar", "shop/web:1")
    raw = tool("skopeo", "inspect", "--raw", f"oci-archive:{archive}")
    assert "sha256:" + hashlib.sha256(raw.encode()).hexdigest() == made.digest
    config = tool("skopeo", "inspect", "--raw", "--config", f"docker-archive:{archive}")
    assert hashlib.sha256(config.encode()).hexdigest() == made.image_id
    tool("skopeo", "copy", f"docker-archive:{archive}:shop/web:1", f"oci:{tmp_path / 'out'}:1")
    tool(
        "skopeo", "copy", "--preserve-digests", f"oci-archive:{archive}", f"dir:{tmp_path / 'dir'}"
    )
    for blob in made.packed:
        assert (tmp_path / "dir" / hashlib.sha256(blob).hexdigest()).read_bytes() == blob


def test_umoci_unpacks_what_save_writes(host: Host, made: TestImage, tmp_path: Path) -> None:
    archive = calls.save(host, tmp_path / "s.tar", "shop/web:1")
    folder = tmp_path / "layout"
    folder.mkdir()
    tool("tar", "-C", folder, "-xf", archive)
    tool("umoci", "unpack", "--image", f"{folder}:1", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    assert (root / "etc/version").read_text() == "1"
    assert not (root / "etc/gone").exists()
    assert sorted(os.listdir(root / "d")) == ["above"]
    assert stat.S_IMODE((root / "bin/su").stat().st_mode) == 0o4755


def test_podman_loads_what_save_writes(
    host: Host, made: TestImage, tmp_path: Path, podman: list[str]
) -> None:
    archive = calls.save(host, tmp_path / "s.tar", "shop/web:1", "shop/also:2")
    loaded = tool(*podman, "load", "-i", archive)
    assert "shop/web:1" in loaded
    assert (
        tool(*podman, "image", "inspect", "-f", "{{.Id}}", "shop/also:2").strip() == made.image_id
    )


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[list[str]]:
    """The start of a command line of podman with a store of its own."""
    # Its run folder's path may have 50 characters.
    with tempfile.TemporaryDirectory(prefix="podman-") as run:
        root = str(tmp_path / "podman")
        yield ["podman", "--root", root, "--runroot", run, "--storage-driver", "vfs"]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_load_reads_what_podman_writes(
    host: Host, other: Host, made: TestImage, tmp_path: Path, podman: list[str], form: str
) -> None:
    tool(*podman, "load", "-i", calls.save(host, tmp_path / "s.tar", "shop/web:1"))
    out = tmp_path / "p"
    tool(*podman, "save", "--format", form, "-o", out, "shop/web:1")
    rows, _ = calls.load(other, out)
    assert [row["id"] for row in rows] == [f"sha256:{made.image_id}"]
    assert rows[0]["loaded"] in ("shop/web:1", "localhost/shop/web:1")


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci"])
def test_load_reads_what_skopeo_writes(
    host: Host, other: Host, made: TestImage, tmp_path: Path, form: str
) -> None:
    archive = calls.save(host, tmp_path / "s.tar", "shop/web:1")
    out = tmp_path / "o"
    tool("skopeo", "copy", f"oci-archive:{archive}", f"{form}:{out}:shop/web:1")
    rows, _ = calls.load(other, out)
    assert rows == [{"loaded": "shop/web:1", "id": f"sha256:{made.image_id}"}]
    image = Store(other.paths.data).image("shop/web:1")
    assert image is not None
    if form != "docker-archive":  # which has no manifest and no compressed layers
        assert image.manifest == made.digest


def test_load_reads_what_umoci_writes(host: Host, other: Host, tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    tool("umoci", "init", "--layout", folder)
    tool("umoci", "new", "--image", f"{folder}:x/app:1")
    tool("umoci", "unpack", "--image", f"{folder}:x/app:1", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    (root / "hello").write_text("from umoci")
    os.chmod(root / "hello", 0o2710)
    os.setxattr(root / "hello", "user.note", b"kept")
    tool("umoci", "repack", "--image", f"{folder}:x/app:1", tmp_path / "bundle")
    rows, _ = calls.load(other, folder)
    assert [row["loaded"] for row in rows] == ["x/app:1"]
    store = Store(other.paths.data)
    (top, *_) = store.lower(rows[0]["id"][7:])
    file = Path(store.links_dir, top, "hello")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("from umoci", 0o2710)
    assert os.getxattr(file, "user.note") == b"kept"


def test_only_what_is_missing_travels(
    host: Host, other: Host, made: TestImage, tmp_path: Path
) -> None:
    first = calls.save(host, tmp_path / "s.tar", "shop/web:1")
    _, sent = calls.load(other, first)
    assert sent > sum(map(len, made.packed))
    rows, again = calls.load(other, first)
    assert rows == [{"loaded": "shop/web:1", "id": f"sha256:{made.image_id}"}]
    assert again < 1500  # index, manifest.json and the like; no blob
    newer = shop("2")
    path = tmp_path / "two.tar"
    path.write_bytes(tar(*(member(n, d) for n, d in layout(newer, names=("shop/web:2",)).items())))
    _, sent = calls.load(other, path)
    assert len(newer.packed[1]) < sent < sum(map(len, newer.packed)) + 1500


def test_old_docker_archives_with_links(host: Host, tmp_path: Path) -> None:
    layer = tar(member("f", b"1"))
    image = TestImage([layer, layer], config={"Cmd": ["sh"]})
    path = tmp_path / "old.tar"
    path.write_bytes(docker_save(image, "old:1"))
    rows, _ = calls.load(host, path)
    assert rows == [{"loaded": "old:1", "id": f"sha256:{image.image_id}"}]


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_compressed_archives(host: Host, tmp_path: Path, suffix: str) -> None:
    image = shop()
    path = tmp_path / f"a.tar.{suffix}"
    with tarfile.open(path, f"w:{suffix}") as archive:
        import io

        for name, data in layout(image, names=("a/b:1",)).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    rows, _ = calls.load(host, path)
    assert rows == [{"loaded": "a/b:1", "id": f"sha256:{image.image_id}"}]


def test_equal_images_give_equal_archives(
    host: Host, other: Host, made: TestImage, tmp_path: Path
) -> None:
    first = calls.save(host, tmp_path / "1.tar", "shop/web:1")
    calls.load(other, first)
    assert calls.save(other, tmp_path / "2.tar", "shop/web:1").read_bytes() == first.read_bytes()


def test_save_has_what_dockers_has(host: Host, made: TestImage, tmp_path: Path) -> None:
    path = calls.save(host, tmp_path / "s.tar", made.image_id[:12])
    with tarfile.open(path) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isreg()}  # type: ignore[union-attr]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (listed,) = json.loads(files["manifest.json"])
    assert listed["RepoTags"] == ["shop/web:1", "shop/also:2"]
    assert hashlib.sha256(files[listed["Config"]]).hexdigest() == made.image_id
    assert [files[name] for name in listed["Layers"]] == made.packed
    names = [
        item["annotations"]["io.containerd.image.name"]
        for item in json.loads(files["index.json"])["manifests"]
    ]
    assert names == ["docker.io/shop/web:1", "docker.io/shop/also:2"]
    assert json.loads(files["repositories"]).keys() == {"shop/web", "shop/also"}


def test_import_makes_an_image_that_skopeo_knows(host: Host, tmp_path: Path) -> None:
    row = calls.import_(
        host, tar(member("etc/"), member("etc/motd", b"hi")), name="root:1", message="by hand"
    )
    archive = calls.save(host, tmp_path / "s.tar", "root:1")
    config = json.loads(tool("skopeo", "inspect", "--config", f"oci-archive:{archive}"))
    assert config["history"][0]["comment"] == "by hand"
    assert row == {"id": f"sha256:{Store(host.paths.data).resolve('root:1')}", "name": "root:1"}


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"x": b"1"}, "neither an OCI layout"),
        ({"index.json": b"{}"}, "no image"),
        ({"index.json": b'{"manifests": []}'}, "no image"),
        ({"index.json": b"[]"}, "not JSON"),
        ({"manifest.json": b"{}"}, "no list of images"),
        ({"manifest.json": b'[{"Config": "../../etc/passwd", "Layers": []}]'}, "does not fit"),
        ({"index.json": b'{"manifests": [{"digest": "sha256:x", "size": 1}]}'}, "no sha256 digest"),
        ({"index.json": b'{"manifests": [7]}'}, "is no manifest"),
    ],
)
def test_broken_archives_are_explained(host: Host, tmp_path: Path, files: dict, match: str) -> None:
    path = tmp_path / "broken.tar"
    path.write_bytes(tar(*(member(name, data) for name, data in files.items())))
    with pytest.raises(HostctlError, match=match):
        calls.load(host, path)
    assert os.listdir(Path(Store(host.paths.data).root, "tmp")) == []
