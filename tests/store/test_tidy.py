"""What goes by itself, what `prune` and `rm` remove, and what never goes: containers, releases, transfers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostctl_host.agent.host import Host
from hostctl_host.contract.errors import HostctlError
from hostctl_host.store import policy, tidy
from hostctl_host.store.needed import needed
from hostctl_host.store.staging import pinned
from hostctl_host.store.store import Store

from tests.store import calls
from tests.store.layers import TestImage, member, tar
from tests.store.test_archive import layout

pytestmark = pytest.mark.root


def bring(host: Host, name: str, text: str, created: str = "", labels: dict | None = None) -> str:
    """An image of one layer with this text; its id."""
    layer = tar(member("f", text.encode() * 1000))
    made = TestImage([layer], config={"Labels": labels or {}}, created=created)
    path = Path(host.paths.data).parent / "one.tar"
    path.write_bytes(tar(*(member(n, d) for n, d in layout(made, names=(name,)).items())))
    rows, _ = calls.load(host, path)
    return str(rows[0]["id"])[7:]


def container(host: Host, name: str, image_id: str) -> None:
    folder = Path(host.paths.data, "containers", name)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({"image": image_id, "spec": {"image": "x"}}))


def generation(host: Host, number: int, name: str, image_id: str, service: str = "web") -> None:
    folder = Path(host.paths.data, "projects", "shop", "generations")
    folder.mkdir(parents=True, exist_ok=True)
    resources = [
        {"kind": "image", "id": f"image.{name}", "spec": {"name": name}},
        {"kind": "container", "id": "container.x", "spec": {"service": service, "image": name}},
    ]
    full = f"docker.io/{name}"
    stored = {"images": {full: image_id}, "document": {"resources": resources}}
    (folder / f"{number}.json").write_text(json.dumps(stored))


def names(store: Store) -> list[str]:
    return sorted(image.name for image in store.images())


def test_the_last_releases_of_a_service_stay(host: Host, store: Store) -> None:
    """A tag that moves: three images stay, so that each of the last three generations can come back."""
    ids = []
    for number in range(1, 6):
        ids.append(bring(host, "shop/web:latest", f"release {number}"))
        generation(host, number, "shop/web:latest", ids[-1])
        tidy.tidy(host.paths.data)
    assert [image.image_id for image in store.images()] == ids[2:]
    for image_id in ids[2:]:
        assert store.lower(image_id)
    assert not store.has_blob(ids[0])


def test_generations_without_a_new_image_do_not_push_releases_out(host: Host, store: Store) -> None:
    old, new = bring(host, "shop/web:1", "old"), bring(host, "shop/web:2", "new")
    generation(host, 1, "shop/web:1", old)
    for number in range(2, 9):
        generation(host, number, "shop/web:2", new)
    tidy.tidy(host.paths.data, ["shop/web:1"])
    assert names(store) == ["docker.io/shop/web:1", "docker.io/shop/web:2"]


def test_how_many_is_a_setting_of_the_host(host: Host, store: Store) -> None:
    for number in (1, 2, 3):
        generation(
            host, number, f"shop/web:{number}", bring(host, f"shop/web:{number}", f"{number}")
        )
    policy.keep(host.paths.data, "2:")
    gone = tidy.tidy(host.paths.data, ["shop/web:1", "shop/web:2"])
    assert gone == ["docker.io/shop/web:1"]
    assert names(store) == ["docker.io/shop/web:2", "docker.io/shop/web:3"]
    policy.keep(host.paths.data, "")
    assert policy.policy(host.paths.data).releases == policy.RELEASES


def test_what_a_container_was_made_from_stays_without_a_name(host: Host, store: Store) -> None:
    image_id = bring(host, "shop/web:1", "x")
    container(host, "shop-web-1", image_id)
    with pytest.raises(HostctlError, match="shop-web-1 needs it") as caught:
        calls.call(host, "rm", names=["shop/web:1"])
    assert caught.value.ref == "image-in-use"
    assert calls.call(host, "rm", names=["shop/web:1"], force=True) == [{"untagged": "shop/web:1"}]
    calls.call(host, "prune", all=True)
    tidy.tidy(host.paths.data)
    assert store.lower(image_id)
    assert [row["containers"] for row in calls.call(host, "images")] == [["shop-web-1"]]


def test_a_damaged_record_stops_all_removal(host: Host, store: Store) -> None:
    bring(host, "shop/web:1", "x")
    store.untag("shop/web:1")
    container(host, "broken", "")
    Path(host.paths.data, "containers", "broken", "spec.json").write_text("{")
    for act in (lambda: tidy.tidy(host.paths.data), lambda: calls.call(host, "prune", all=True)):
        with pytest.raises(HostctlError) as caught:
            act()
        assert caught.value.ref == "damaged-record"
    assert len(store.images()) == 1


def test_nearly_full_the_oldest_unneeded_tags_go(
    host: Host, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until enough is free; nothing of today, nothing that somebody needs."""
    now = time.time()
    for number, age in ((1, 9), (2, 8), (3, 7)):
        monkeypatch.setattr(time, "time", lambda age=age: now - age * 86400)
        bring(host, f"old/app:{number}", f"{number}" * 50)
    container(host, "user", store.resolve("old/app:1") or "")
    monkeypatch.setattr(time, "time", lambda: now)
    bring(host, "today/app:1", "fresh")
    # As much is free as was removed.
    full = len(names(store))
    monkeypatch.setattr(tidy, "free", lambda store: full - len(names(store)))
    tidy.make_room(store, 1)
    assert names(store) == [
        "docker.io/old/app:1",
        "docker.io/old/app:3",
        "docker.io/today/app:1",
    ]
    tidy.make_room(store, 99)
    assert names(store) == ["docker.io/old/app:1", "docker.io/today/app:1"]


_PRUNE = """
import sys
from hostctl_host.store.collect import collect
from hostctl_host.store.store import Store
print(collect(Store(sys.argv[1])))
"""


def other_process_collects(data: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _PRUNE, data],
        env={"PYTHONPATH": "build/editable", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout)


def test_another_process_does_not_remove_what_is_on_its_way(host: Host, store: Store) -> None:
    image_id = bring(host, "shop/web:1", "x")
    (layer,) = [
        f"sha256:{n[:-5]}" for n in os.listdir(f"{store.root}/layers") if n.endswith(".json")
    ]
    with pinned(store, [image_id, layer]):
        store.untag("shop/web:1")
        other_process_collects(host.paths.data)
        assert store.has_blob(image_id)
        assert store.has_layer(layer)
    assert other_process_collects(host.paths.data) > 1000
    assert not store.has_layer(layer)
    assert os.listdir(os.path.join(store.root, "tmp")) == []


def test_prune_by_age_and_label(host: Host, store: Store) -> None:
    bring(host, "a:1", "a", created="2020-01-01T00:00:00Z")
    bring(host, "b:1", "b", created="2026-01-01T00:00:00.5+02:00")
    bring(host, "c:1", "c", labels={"keep": "yes"})
    limit = str(time.mktime((2024, 1, 1, 0, 0, 0, 0, 0, 0)))
    before = names(store)
    dry = calls.call(
        host, "prune", all=True, dry=True, filters=[("until", limit), ("label!", "keep")]
    )
    assert names(store) == before
    done = calls.call(host, "prune", all=True, filters=[("until", limit), ("label!", "keep")])
    assert dry == done
    assert done[0] == {"untagged": "a:1"}
    assert done[-1]["freed"] > 1000
    assert [row["name"] for row in calls.call(host, "images")] == ["b:1", "c:1"]
    calls.call(host, "prune", all=True, filters=[("label", "keep=yes")])
    assert [row["name"] for row in calls.call(host, "images")] == ["b:1"]


def test_prune_without_all_takes_nameless_images_only(host: Host, store: Store) -> None:
    first = bring(host, "a:1", "one")
    bring(host, "a:1", "two")
    rows = calls.call(host, "prune")
    assert rows[0] == {"deleted": f"sha256:{first}"}
    assert [row["name"] for row in calls.call(host, "images")] == ["a:1"]


def test_declared_images_are_no_leftovers(host: Host, store: Store) -> None:
    generation(host, 1, "shop/job:1", bring(host, "shop/job:1", "x"), service="")
    assert calls.call(host, "prune", all=True) == [{"freed": 0}]
    assert needed(host.paths.data).names == {"docker.io/shop/job:1"}


def test_rm_by_id_and_by_name(host: Host, store: Store) -> None:
    image_id = bring(host, "a:1", "x")
    calls.call(host, "tag", source="a:1", target="b:2")
    with pytest.raises(HostctlError, match="it has 2 names: a:1, b:2"):
        calls.call(host, "rm", names=[image_id[:12]])
    assert calls.call(host, "rm", names=["a:1"]) == [{"untagged": "a:1"}]
    rows = calls.call(host, "rm", names=[f"sha256:{image_id}"])
    assert rows == [{"untagged": "b:2"}, {"deleted": f"sha256:{image_id}"}]
    with pytest.raises(HostctlError, match="cannot find the image a:1") as caught:
        calls.call(host, "rm", names=["a:1"])
    assert caught.value.ref == "no-image"


def test_inspect_has_dockers_fields(host: Host) -> None:
    image_id = bring(host, "a:1", "x", labels={"l": "v"})
    (row,) = calls.call(host, "inspect", names=[image_id[:6]])
    assert row["Id"] == f"sha256:{image_id}"
    assert row["RepoTags"] == ["a:1"]
    assert row["RepoDigests"][0].startswith("a@sha256:")
    assert row["Config"]["Labels"] == {"l": "v"}
    assert row["RootFS"]["Type"] == "layers"
    assert row["Size"] == 1000
    with pytest.raises(HostctlError) as caught:
        calls.call(host, "inspect", names=["a:1", "nothing:1"])
    assert caught.value.ref == "image-missing"


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ([("reference", "shop/*")], ["shop/web:1"]),
        ([("reference", "shop/web:2")], []),
        ([("label", "tier=front")], ["shop/web:1"]),
        ([("dangling", "true")], [""]),
        ([("dangling", "false")], ["b:1", "shop/web:1"]),
        ([("before", "b:1")], [""]),
        ([("since", "b:1")], ["shop/web:1"]),
    ],
)
def test_filters_of_images(host: Host, filters: list, left: list) -> None:
    bring(host, "b:1", "old", created="2020-01-01T00:00:00Z")
    bring(host, "b:1", "b", created="2021-01-01T00:00:00Z")
    bring(host, "shop/web:1", "w", created="2022-01-01T00:00:00Z", labels={"tier": "front"})
    assert sorted(row["name"] for row in calls.call(host, "images", filters=filters)) == left


def test_df_counts_each_layer_once(host: Host, store: Store) -> None:
    first = bring(host, "a:1", "x")
    calls.call(host, "tag", source="a:1", target="b:1")
    container(host, "user", first)
    upper = Path(host.paths.data, "containers", "user", "upper")
    upper.mkdir()
    (upper / "f").write_bytes(b"z" * 10_000)
    os.link(upper / "f", upper / "g")
    bring(host, "c:1", "y" * 5)
    (row,) = calls.call(host, "df")
    assert (row["images"]["total"], row["images"]["active"]) == (2, 1)
    blobs = sum(p.stat().st_size for p in Path(store.root, "blobs/sha256").iterdir())
    assert row["images"]["size"] == blobs + 1000 + 5000
    freed = calls.call(host, "prune", all=True)[-1]["freed"]
    assert row["images"]["reclaimable"] == freed > 5000
    assert row["containers"]["size"] in range(10_000, 20_000)
