"""Content by digest: asked for once and only where it is missing and wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.document import digest
from hostctl_host.contract.report import HostStatus, Status

from .wire import World, document


def copy(path: Path, data: bytes, **fields: Any) -> dict[str, Any]:
    spec = {"dest": str(path), "digest": digest(data), "mode": "0644"}
    return {"id": f"copy.{path.name}", "kind": "copy", "spec": spec, **fields}


def needed(agent: Any) -> list[str]:
    return [name for frame in agent.frames("need") for name in frame["digests"]]


def test_only_missing_content_of_differing_resources_is_asked_for(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "same").write_bytes(b"same\n")
    (tmp_path / "same").chmod(0o644)
    resources = [copy(tmp_path / "same", b"same\n")]
    resources += [copy(tmp_path / f"new{i}", b"new %d\n" % i) for i in range(5)]
    blobs = tuple(b"new %d\n" % i for i in range(5))
    with world.start("apply") as agent:
        report = agent.run(document(*resources), (*blobs, b"same\n"))
    assert len(agent.frames("need")) == 1
    assert sorted(needed(agent)) == sorted(map(digest, blobs))
    assert report.count(Status.CHANGED) == 5
    assert "+new 3" in report.outcomes[4].changes[0].diff
    with world.start("apply") as agent:
        agent.run(document(*resources))
    assert needed(agent) == []


def test_what_is_in_the_cache_is_not_asked_for_again(world: World, tmp_path: Path) -> None:
    with world.start("apply") as agent:
        agent.run(document(copy(tmp_path / "a", b"one\n")), (b"one\n",))
    (tmp_path / "a").write_text("drift")
    with world.start("apply") as agent:
        agent.run(document(copy(tmp_path / "a", b"one\n")))
    assert needed(agent) == []
    assert (tmp_path / "a").read_bytes() == b"one\n"


def test_a_damaged_cache_is_fetched_again(world: World, tmp_path: Path) -> None:
    with world.start("apply") as agent:
        agent.run(document(copy(tmp_path / "a", b"one\n")), (b"one\n",))
    (world.data / "blobs" / digest(b"one\n")).write_bytes(b"bad")
    (tmp_path / "a").unlink()
    with world.start("apply") as agent:
        agent.run(document(copy(tmp_path / "a", b"one\n")), (b"one\n",))
    assert (tmp_path / "a").read_bytes() == b"one\n"


def test_a_plan_takes_content_for_its_diff_and_keeps_none(world: World, tmp_path: Path) -> None:
    with world.start("plan") as agent:
        report = agent.run(document(copy(tmp_path / "a", b"one\n")), (b"one\n",))
    assert "+one" in report.outcomes[0].changes[0].diff
    assert not world.data.exists()


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_blobs_of_any_size_come_in_chunks(world: World, tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) if size > 1 else b"x" * size
    with world.start("apply") as agent:
        agent.run(document(copy(tmp_path / "a", data)), (data,))
    assert (tmp_path / "a").read_bytes() == data


def test_a_blob_that_is_not_what_its_name_says_is_refused(world: World, tmp_path: Path) -> None:
    with world.start("apply") as agent:
        agent.blobs[digest(b"right")] = b"wrong"
        report = agent.run(document(copy(tmp_path / "a", b"right")))
    assert report.status is HostStatus.FAILED
    assert "its digest differs" in report.failures[0].message
    assert not (tmp_path / "a").exists()
    assert list((world.data / "blobs").iterdir()) == []


def test_content_lives_as_long_as_a_generation_or_an_undo_names_it(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"precious\n")
    (tmp_path / "a").chmod(0o600)
    for number in range(12):
        data = b"%d\n" % number
        with world.start("apply") as agent:
            agent.run(document(copy(tmp_path / "a", data)), (data,))
    kept = {path.name for path in (world.data / "blobs").iterdir()}
    assert kept == {digest(b"%d\n" % n) for n in range(2, 12)} | {digest(b"precious\n")}
    world.destroy()
    assert (tmp_path / "a").read_bytes() == b"precious\n"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert list((world.data / "blobs").iterdir()) == []


def test_secret_content_stays_in_the_run_folder_and_not_for_long(
    world: World, tmp_path: Path
) -> None:
    with world.start("apply") as agent:
        agent.run(document(copy(tmp_path / "a", b"s3cret\n", no_log=True)), (b"s3cret\n",))
    assert (tmp_path / "a").read_bytes() == b"s3cret\n"
    for folder in (world.data, world.run):
        for path in folder.rglob("*"):
            assert not path.is_file() or b"s3cret" not in path.read_bytes(), path
    assert "s3cret" not in str(agent.seen)
