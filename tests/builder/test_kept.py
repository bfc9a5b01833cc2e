"""What builds keep: how long files of contexts and cache mounts stay, and what `system df` and `prune` make of them."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest
from hostctl_host.build import cache, keeping
from hostctl_host.store import tidy

from tests.builder.conftest import Builder
from tests.builder.test_build import steps

DAY = 86400


@pytest.fixture
def hostctl(tmp_path: Path) -> Builder:
    """A host that has built nothing yet."""
    return Builder(tmp_path)


def names(builder: Builder, *path: str) -> list[str]:
    folder = Path(builder.paths.data, "build", *path)
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def age(builder: Builder, days: float, *path: str) -> None:
    """As if all below that folder had been used last so many days ago."""
    then = time.time() - days * DAY
    for name in names(builder, *path):
        os.utime(Path(builder.paths.data, "build", *path, name), (then, then))


TEXT = "FROM BASE\nCOPY a /a\nRUN --mount=type=cache,target=/c echo x >> /c/log && cat /c/log\n"


def test_what_was_not_used_for_two_weeks_goes_with_the_next_build(hostctl, context) -> None:
    folder = context(TEXT, a="1")
    hostctl("build", "-t", "kept:1", str(folder))
    assert len(names(hostctl, "mounts")) == 1
    age(hostctl, 13, "blobs")
    age(hostctl, 13, "mounts")
    hostctl("build", "-t", "other:1", str(context("FROM BASE\nRUN echo other\n")))
    assert len(names(hostctl, "mounts")) == 1
    used = set(names(hostctl, "blobs"))
    age(hostctl, 15, "blobs")
    age(hostctl, 15, "mounts")
    age(hostctl, 15, "cache")
    part = Path(hostctl.paths.data, "build", "blobs", ".killed.part")
    part.write_text("half")
    hostctl("build", "-t", "another:1", str(context("FROM BASE\nRUN echo another\n")))
    assert names(hostctl, "mounts") == []
    assert used.isdisjoint(names(hostctl, "blobs"))
    assert not part.exists()
    assert names(hostctl, "gone") == []
    done = hostctl("build", "-t", "kept:1", str(context(TEXT, a="1")))
    assert steps(done) == ["COPY a /a", TEXT.splitlines()[2]]


def test_use_makes_it_young_again(hostctl, context) -> None:
    hostctl("build", "-t", "kept:1", str(context(TEXT, a="1")))
    age(hostctl, 13, "blobs")
    age(hostctl, 13, "mounts")
    hostctl("build", "-t", "kept:1", "--no-cache", str(context(TEXT, a="1")))
    keeping.tidy(hostctl.paths.data, time.time() - 12 * DAY)
    assert len(names(hostctl, "mounts")) == 1
    kept = [
        Path(hostctl.paths.data, "build", "blobs", one).read_text()
        for one in names(hostctl, "blobs")
    ]
    assert "1" in kept


def test_a_build_that_goes_on_keeps_everything(hostctl, context) -> None:
    hostctl("build", "-t", "kept:1", str(context(TEXT, a="1")))
    before = [names(hostctl, one) for one in ("blobs", "mounts", "cache")]
    with keeping.building(hostctl.paths.data):
        assert not keeping.tidy(hostctl.paths.data, math.inf)
        hostctl("system prune", "--yes")
        hostctl("build", "-t", "beside:1", str(context(TEXT, a="1")))
        for one, there in zip(("blobs", "mounts", "cache"), before, strict=True):
            assert set(there) <= set(names(hostctl, one))
    assert keeping.tidy(hostctl.paths.data, math.inf)
    assert [names(hostctl, one) for one in ("blobs", "mounts", "cache")] == [[], [], []]


def test_a_full_disk_takes_what_builds_kept(hostctl, context) -> None:
    hostctl("build", "-t", "kept:1", str(context(TEXT, a="1")))
    tidy.make_room(hostctl.store, 1 << 60)
    assert len(names(hostctl, "mounts")) == 1  # it is of today
    age(hostctl, 2, "mounts")
    age(hostctl, 2, "blobs")
    tidy.make_room(hostctl.store, 0)
    assert len(names(hostctl, "mounts")) == 1  # there is room
    tidy.make_room(hostctl.store, 1 << 60)
    assert names(hostctl, "mounts") == []
    assert names(hostctl, "blobs") == []


def test_an_apply_collects_it_too(hostctl, context) -> None:
    hostctl("build", "-t", "kept:1", str(context(TEXT, a="1")))
    old = (time.time() - cache.KEPT_SECONDS - 60,) * 2
    os.utime(Path(hostctl.paths.data, "build", "mounts", names(hostctl, "mounts")[0]), old)
    tidy.tidy(hostctl.paths.data)
    assert names(hostctl, "mounts") == []
    assert hostctl.store.image("kept:1") is not None


def test_df_and_prune(hostctl, context) -> None:
    text = (
        TEXT
        + "RUN --mount=type=cache,id=big,target=/c dd if=/dev/zero of=/c/big bs=1M count=3 2> /dev/null\n"
    )
    hostctl("build", "-t", "kept:1", str(context(text, a="1")))
    found = json.loads(hostctl("system df", "--json").stdout)["hosts"]["here"]["cache"]
    by_type: dict[str, list[dict]] = {}
    for item in found["items"]:
        by_type.setdefault(item["type"], []).append(item)
    assert set(by_type) == {"regular", "source.local", "exec.cachemount"}
    assert len(by_type["exec.cachemount"]) == 2
    assert 3 << 20 <= sum(item["size"] for item in by_type["exec.cachemount"]) < 4 << 20
    assert found["reclaimable"] >= 3 << 20
    shown = hostctl("system df", "-v").stdout
    assert "exec.cachemount" in shown
    dry = hostctl("system prune", "--dry-run").stdout
    assert "Would reclaim" in dry
    assert len(names(hostctl, "mounts")) == 2
    done = hostctl("system prune", "--yes").stdout
    assert dry.split()[-1] == done.split()[-1]
    assert names(hostctl, "mounts") == names(hostctl, "blobs") == names(hostctl, "cache") == []
    assert hostctl.store.image("kept:1") is not None
    found = json.loads(hostctl("system df", "--json").stdout)["hosts"]["here"]["cache"]
    assert found["items"] == []
