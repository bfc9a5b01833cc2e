"""Runs in tests: volumes that a container has from other containers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hostctl_host import container
from hostctl_host.contract.change import Action
from hostctl_host.contract.errors import CannotApply
from hostctl_host.contract.storage import Mount

from .shop import Shop, data

pytestmark = pytest.mark.root


def test_volumes_from_gives_all_but_tmpfs(shop: Shop, tmp_path: Path) -> None:
    shop.volume("data")
    shop.image["config"]["Volumes"] = {"/var/db": {}}
    (tmp_path / "bound").mkdir()
    giver = shop.spec(
        "giver",
        volumes=(
            Mount("/data", source="test_data"),
            Mount("/bound", "bind", str(tmp_path / "bound")),
            Mount("/memory", "tmpfs"),
        ),
    )
    shop.converge(container, giver)
    (shop.root(giver.name) / "var/db/file").write_text("anonymous, too")
    shop.image["config"]["Volumes"] = {}
    (data(shop, "data") / "file").write_text("named")
    taker = shop.spec("taker", volumes_from=(f"{giver.name}:ro",))
    shop.converge(container, taker)
    root = shop.root(taker.name)
    assert (root / "data/file").read_text() == "named"
    assert (root / "var/db/file").read_text() == "anonymous, too"
    assert (root / "bound").is_dir() and not (root / "memory").exists()
    found = shop.mounts(taker.name)
    assert all(found[path][5].startswith("ro") for path in ("/data", "/bound", "/var/db"))


def test_its_own_mounts_come_before_those_of_others(shop: Shop) -> None:
    shop.volume("data")
    shop.volume("own")
    giver = shop.spec("giver", volumes=(Mount("/data", source="test_data"),))
    shop.converge(container, giver)
    (data(shop, "own") / "file").write_text("mine")
    mounts = (Mount("/data", source="test_own"),)
    out = shop.run("taker", "cat /data/file", volumes=mounts, volumes_from=(giver.name,))
    assert out == "mine"


def test_who_takes_volumes_is_replaced_when_they_are_others(shop: Shop) -> None:
    shop.volume("data")
    giver = shop.spec("giver", volumes=(Mount("/data", source="test_data"),))
    shop.converge(container, giver)
    taker = shop.spec("taker", volumes_from=(giver.name,))
    shop.converge(container, taker)
    same = replace(giver, environment={"A": "1"})
    shop.converge(container, same)
    assert shop.plan(container, taker) == []
    other = replace(same, volumes=(Mount("/elsewhere", source="test_data"),))
    shop.plan(container, other)
    assert [(c.field, c.action) for c in shop.plan(container, taker)] == [
        ("volumes_from", Action.REPLACE)
    ]
    shop.converge(container, other)
    assert [c.field for c in shop.converge(container, taker)] == ["volumes_from"]
    assert (shop.root(taker.name) / "elsewhere").is_dir()


def test_volumes_of_nobody(shop: Shop) -> None:
    with pytest.raises(CannotApply, match="there is no such container"):
        shop.run("web", "true", volumes_from=("test-ghost-1",))
