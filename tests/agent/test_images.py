"""Runs that bring images: generations say which, old ones go, those to go back to stay, destroy leaves none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.report import HostReport, HostStatus
from hostctl_host.store.store import Store

from tests.store.layers import TestImage, member, tar
from tests.store.test_archive import layout

from .wire import World, document

pytestmark = pytest.mark.root


def release(world: World, number: int, name: str, **options: Any) -> HostReport:
    """Apply a project whose only image is this one; `shop/web` gets other content each time."""
    made = TestImage([tar(member("version", b"%d" % number * 500))])
    files = layout(made, names=(name,))
    content = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    folder = world.data / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (folder / content[path]).write_bytes(data)
    resource = {"id": f"image.{name}", "kind": "image", "spec": {"name": name, "content": content}}
    with world.start("apply", *options.get("agent", ())) as agent:
        report = agent.run(document(resource, content=dict.fromkeys(content.values(), 1)))
    assert report.status is HostStatus.OK, report.failures
    return report


def names(world: World) -> list[str]:
    return sorted(image.name for image in Store(str(world.data)).images())


def layers(world: World) -> int:
    return len(list((world.data / "store/layers").glob("*.json")))


def test_generations_say_which_image_a_name_meant(world: World) -> None:
    release(world, 1, "shop/web:1")
    release(world, 2, "shop/web:1")
    ids = [
        json.loads((world.data / f"projects/shop/generations/{n}.json").read_text())["images"]
        for n in (1, 2)
    ]
    assert ids[0].keys() == ids[1].keys() == {"docker.io/shop/web:1"}
    assert ids[0] != ids[1]
    assert Store(str(world.data)).resolve("shop/web:1") == ids[1]["docker.io/shop/web:1"]


def test_tags_that_were_declared_once_go_and_are_no_orphans_then(world: World) -> None:
    """No container uses them, so only the last generation needs its image."""
    for number in (1, 2, 3):
        report = release(world, number, f"shop/web:{number}")
    assert names(world) == ["docker.io/shop/web:3"]
    assert layers(world) == 1
    assert [w for w in report.warnings if "shop/web:1" in w] == []


def test_what_was_there_before_the_project_stays(world: World) -> None:
    release(world, 1, "shop/web:1")
    ledger = world.data / "projects/shop/ledger.json"
    for path in (world.data / "projects/shop").rglob("*.json*"):
        path.unlink()
    assert not ledger.exists()
    release(world, 1, "shop/web:1")
    release(world, 2, "shop/web:2")
    assert names(world) == ["docker.io/shop/web:1", "docker.io/shop/web:2"]


def test_destroy_leaves_nothing(world: World) -> None:
    for number in (1, 2):
        release(world, number, "shop/web:latest")
    world.destroy()
    assert names(world) == []
    assert layers(world) == 0
    assert list((world.data / "store/blobs/sha256").iterdir()) == []


def test_the_policy_comes_from_the_inventory(world: World) -> None:
    release(world, 1, "shop/web:1", agent=("--image-policy", "5:20%"))
    assert Path(world.data, "image-policy").read_text() == "5:20%"
    release(world, 1, "shop/web:1")
    assert not Path(world.data, "image-policy").exists()
