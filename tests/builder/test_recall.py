"""Whole builds that are only looked up: when that is so, and that what changed meanwhile is always noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.builder.test_build import image, steps

TEXT = "FROM BASE\nCOPY a /a\nRUN cat /a > /b\nENV X=1\n"
STEPS = ("[stage-0 1/3] COPY a /a", "[stage-0 2/3] RUN cat /a > /b")


def written(hostctl) -> dict[str, tuple[int, int]]:
    """Everything in the data folder, so that any write is seen, a mere mark of use left out."""

    def walk(folder: str) -> Iterator[os.DirEntry[str]]:
        for entry in os.scandir(folder):
            yield entry
            if entry.is_dir(follow_symlinks=False) and entry.name != "agents":
                yield from walk(entry.path)

    found = {}
    for entry in walk(hostctl.paths.data):
        status = entry.stat(follow_symlinks=False)
        marked = "/build/" in entry.path and entry.is_file()
        found[entry.path] = (status.st_ino, 0 if marked else status.st_mtime_ns)
    return found


def record(hostctl) -> Path:
    """What was written down last of a whole build."""
    folder = Path(hostctl.paths.data, "build", "whole")
    return max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def test_the_same_build_again_writes_nothing(hostctl, context) -> None:
    folder = context(TEXT, a="1")
    first = hostctl("build", "-t", "same:1", str(folder))
    before = written(hostctl)
    os.utime(record(hostctl), (1, 1))
    second = hostctl("build", "-t", "same:1", str(folder))
    assert written(hostctl) == before
    assert second.stdout == first.stdout
    assert record(hostctl).stat().st_mtime > 1, "it was used"
    assert second.stderr == "".join(f"{line} (cached)\n" for line in STEPS)


def test_a_name_that_was_taken_away_comes_back(hostctl, context) -> None:
    folder = context(TEXT, a="names")
    built = hostctl("build", "-t", "back:1", str(folder)).stdout
    hostctl("rmi", "back:1")
    again = hostctl("build", "-t", "back:1", "-t", "back:2", str(folder))
    assert hostctl.store.resolve("back:1") == hostctl.store.resolve("back:2")
    assert again.stdout == built


def test_another_image_under_the_base_s_name_is_noticed(hostctl, context) -> None:
    for text in ("one", "two"):
        below = context("FROM BASE\nCOPY a /a\n", a=text)
        hostctl("build", "-t", "below:1", str(below))
        above = context("FROM below:1\nRUN cp /a /b\n")
        done = hostctl("build", "-t", "above:1", str(above))
        assert steps(done) == ["RUN cp /a /b"]
        assert steps(hostctl("build", "-t", "above:1", str(above))) == []
    layer = hostctl.store.lower(hostctl.store.resolve("above:1"))[0]
    assert Path(hostctl.store.links_dir, layer, "b").read_text() == "two"


def test_a_step_whose_record_is_gone_is_done_again(hostctl, context) -> None:
    folder = context(TEXT, a="gone")
    built = hostctl("build", "-t", "gone:1", str(folder)).stdout
    for path in Path(hostctl.paths.data, "build", "cache").iterdir():
        path.unlink()
    again = hostctl("build", "-t", "gone:1", str(folder))
    assert len(steps(again)) == 2
    assert again.stdout == hostctl("build", "-t", "gone:1", str(folder)).stdout != built


def test_a_damaged_record_costs_a_walk_and_no_more(hostctl, context) -> None:
    folder = context(TEXT, a="damaged")
    built = hostctl("build", "-t", "damaged:1", str(folder)).stdout
    path = record(hostctl)
    for damage in (b"", b"{}", b'{"agent": 1}', b"[1]"):
        path.write_bytes(damage)
        again = hostctl("build", "-t", "damaged:1", str(folder))
        assert (steps(again), again.stdout) == ([], built)
        assert path.read_bytes() != damage


def test_no_cache_and_pull_are_never_answered_from_memory(hostctl, context) -> None:
    folder = context(TEXT, a="forced")
    hostctl("build", "-t", "forced:1", str(folder))
    hostctl("build", "-t", "forced:1", str(folder))
    assert len(steps(hostctl("build", "--no-cache", "-t", "forced:1", str(folder)))) == 2
    assert hostctl("build", "--pull", "-t", "forced:1", str(folder)).returncode == 0
    assert image(hostctl, "forced:1")["config"]["Env"][-1] == "X=1"
