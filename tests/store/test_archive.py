"""Images from OCI layouts and docker save tars, as the controller ships them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from hashlib import sha256 as hash256
from pathlib import Path

import pytest
from hostctl_host import image
from hostctl_host.agent.host import Host
from hostctl_host.contract.change import UNKNOWN
from hostctl_host.contract.errors import CannotApply
from hostctl_host.store.store import Store

from tests.store.layers import TestImage, member, sha256, tar
from tests.store.registries import RunningRegistry
from tests.store.test_pull import assert_clean, make_image, run

pytestmark = pytest.mark.root


def layout(*images: TestImage, names: tuple[str, ...] = ()) -> dict[str, bytes]:
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    entries = []
    for number, made in enumerate(images):
        entry: dict = {
            "mediaType": made.media_type,
            "digest": made.digest,
            "size": len(made.manifest),
        }
        if names:
            entry["annotations"] = {"org.opencontainers.image.ref.name": names[number]}
        entries.append(entry)
        files[f"blobs/sha256/{made.digest[7:]}"] = made.manifest
        files.update({f"blobs/sha256/{digest[7:]}": data for digest, data in made.blobs().items()})
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return files


def docker_save(made: TestImage, tag: str) -> bytes:
    config = f"{made.image_id}.json"
    paths = [f"{index}/layer.tar" for index in range(len(made.layers))]
    listing = [{"Config": config, "RepoTags": [tag], "Layers": paths}]
    files = [
        member(config, made.config_data),
        member("manifest.json", json.dumps(listing).encode()),
    ]
    first: dict[bytes, int] = {}
    for index, layer in enumerate(made.layers):
        if layer in first:
            files.append(member(paths[index], link=f"../{first[layer]}/layer.tar"))
        else:
            files.append(member(paths[index], layer))
            first[layer] = index
    return tar(*files)


def shipped(host: Host, files: dict[str, bytes], on_disk: bool = True) -> dict[str, str]:
    """What the controller makes of an archive: blobs in the agent's cache, path -> digest in the spec."""
    content = {name: hash256(data).hexdigest() for name, data in files.items()}
    blobs = {content[name]: data for name, data in files.items()}
    if on_disk:
        folder = os.path.join(host.paths.data, "blobs")
        os.makedirs(folder, exist_ok=True)
        for digest, data in blobs.items():
            Path(folder, digest).write_bytes(data)
    else:
        host.blob = blobs.__getitem__
    return content


@pytest.mark.parametrize("on_disk", [True, False])
def test_layout_folder(host: Host, store: Store, on_disk: bool) -> None:
    made = make_image("layout")
    spec = image.Spec(name="shop/web:1", content=shipped(host, layout(made), on_disk))
    observed = image.observe(spec, host)
    [change] = image.diff(spec, observed)
    assert (change.after, change.note, observed.target_id) == (UNKNOWN, "from an archive", None)
    image.apply(spec, observed, [change], host)
    assert store.resolve("shop/web:1") == made.image_id
    assert store.image("docker.io/shop/web:1").manifest == made.digest
    assert image.diff(spec, image.observe(spec, host)) == []
    assert set(image.content(spec)) == set(spec.content.values())
    assert_clean(store)


def test_changed_archive_is_a_change(host: Host, store: Store) -> None:
    first, second = make_image("v1"), make_image("v2")
    run(image.Spec(name="app", content=shipped(host, layout(first))), host)
    spec = image.Spec(name="app", content=shipped(host, layout(second)))
    [change] = run(spec, host)
    assert (change.field, change.before, change.after) == ("digest", first.digest, UNKNOWN)
    assert store.resolve("app") == second.image_id
    # Back to what is still in the store: nothing has to be sent.
    back = image.Spec(name="app", content=shipped(host, layout(first)))
    assert image.observe(back, host).target_id == first.image_id
    host.blob = None
    run(back, host)
    assert store.resolve("app") == first.image_id


@pytest.mark.parametrize("packed", [False, True])
def test_layout_in_a_tar(host: Host, store: Store, packed: bool) -> None:
    made = make_image("tarred")
    data = tar(*(member(f"./{name}", content) for name, content in layout(made).items()))
    spec = image.Spec(
        name="app", content=shipped(host, {"": gzip.compress(data) if packed else data})
    )
    run(spec, host)
    assert store.resolve("app") == made.image_id


def test_docker_save(host: Host, store: Store) -> None:
    a, b = tar(member("a", b"a" * 1000)), tar(member("b", b"b"))
    made = TestImage([a, b, a], config={"Cmd": ["x"]})
    spec = image.Spec(
        name="app:1", content=shipped(host, {"image.tar": docker_save(made, "other:2")})
    )
    run(spec, host)
    assert store.resolve("app:1") == made.image_id
    assert len(store.lower(made.image_id)) == 2
    assert run(spec, host) == []


def test_skopeo_docker_archive(
    registry: RunningRegistry, host: Host, store: Store, tmp_path
) -> None:
    made = make_image("archive", docker=True)
    name = registry.push("archive", "1", made)
    target = tmp_path / "saved.tar"
    subprocess.run(
        [
            "skopeo",
            "copy",
            "-q",
            "--src-tls-verify=false",
            f"docker://{name}",
            f"docker-archive:{target}:app:1",
        ],
        check=True,
        timeout=30,
    )
    run(image.Spec(name="app:1", content=shipped(host, {"x": target.read_bytes()})), host)
    assert store.resolve("app:1") == made.image_id


def test_image_is_found_by_name(host: Host, store: Store) -> None:
    one, two = make_image("one"), make_image("two")
    files = layout(one, two, names=("docker.io/library/one:1", "two:2"))
    run(image.Spec(name="two:2", content=shipped(host, files)), host)
    assert store.resolve("two:2") == two.image_id
    with pytest.raises(CannotApply, match=r"it has docker\.io/library/one:1, two:2") as caught:
        run(image.Spec(name="three", content=shipped(host, files)), host)
    assert caught.value.ref == "archive-image"


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"a": b"x", "b": b"y"}, "neither an OCI layout"),
        ({"": tar(member("x", b"y"))}, "neither an OCI layout"),
        ({"": b"no tar at all" * 100}, "checksum|is no"),
        ({"index.json": b"{}"}, "it has no image"),
        ({"manifest.json": b"[]", "b": b""}, "it has no image"),
        ({"manifest.json": b'[{"Config": "../../etc/passwd"}]', "b": b""}, "does not fit"),
    ],
)
def test_archives_that_are_none(
    host: Host, store: Store, files: dict[str, bytes], match: str
) -> None:
    with pytest.raises(CannotApply, match=match):
        run(image.Spec(name="app", content=shipped(host, files)), host)
    assert store.resolve("app") is None


def test_wrong_blob_is_refused(host: Host, store: Store) -> None:
    made = make_image("wrong")
    files = layout(made)
    files[f"blobs/sha256/{sha256(made.packed[0])[7:]}"] = made.packed[1]
    with pytest.raises(CannotApply, match="expected") as caught:
        run(image.Spec(name="app", content=shipped(host, files)), host)
    assert caught.value.ref == "digest-mismatch"
    assert store.resolve("app") is None


def test_missing_blob_is_named(host: Host) -> None:
    made = make_image("missing")
    files = layout(made)
    del files[f"blobs/sha256/{sha256(made.packed[0])[7:]}"]
    with pytest.raises(CannotApply, match=f"{sha256(made.packed[0])} is missing from it"):
        run(image.Spec(name="app", content=shipped(host, files)), host)
