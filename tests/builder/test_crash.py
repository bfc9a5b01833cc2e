"""Builds that are killed, at each of their lines and in between, and builds on a disk that is full."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builder.conftest import Builder
from tests.builder.test_build import _mounts, _processes, _until
from tests.builder.trees import tree_of

TEXT = (
    "FROM BASE AS one\nCOPY a /a\nRUN --mount=type=cache,target=/c echo 1 >> /c/log && cat /a > /one\n"
    "FROM BASE AS two\nRUN echo 2 > /two && mkdir /d && echo deep > /d/f\nWORKDIR /w\n"
    "FROM one\nCOPY --from=two /two /d /t/\nRUN echo end >> /one && rm /a\n"
)


def left_behind(builder: Builder) -> list[str]:
    """What a build must not leave, whatever happened to it."""
    found = [path for path in _mounts() if builder.paths.data in path]
    found += [words for _, words in _processes(builder.paths.data)]
    found += os.listdir(builder.store.root + "/tmp")
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{_group(builder)}/builds/*")]
    return found


def _group(builder: Builder) -> str:
    from hostctl_host.runtime import cgroup

    return os.path.basename(cgroup.base(builder.paths.run))


def test_a_build_that_is_killed_at_any_line_converges(tmp_path, context) -> None:
    folder = context(TEXT, a="a")
    whole = Builder(_folder(tmp_path, "whole"))
    done = whole("build", "-t", "x:1", str(folder))
    wanted = tree_of(whole.store, "x:1")
    builder = Builder(_folder(tmp_path, "killed"))
    lines = len(done.stderr.splitlines())
    assert lines > 6
    for number in range(lines):
        process = builder.start("-t", "x:1", str(folder))
        assert process.stderr is not None
        for _ in range(number + 1):
            process.stderr.readline()
        for pid, _ in _processes(builder.paths.data):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.communicate(timeout=120)
        _until(lambda: not _processes(builder.paths.data))
    builder("build", "-t", "x:1", str(folder))
    assert tree_of(builder.store, "x:1") == wanted
    assert left_behind(builder) == []
    # Whatever layers were made half-way: each of the store is whole.
    for blob in Path(builder.store.root, "blobs", "sha256").iterdir():
        digest = subprocess.run(
            ["sha256sum", str(blob)], stdout=subprocess.PIPE, check=True, text=True
        )
        assert digest.stdout.split()[0] == blob.name


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Builder]:
    """A host whose data folder lies on a file system of its own, with little room."""
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as stream:
        stream.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield Builder(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    "step",
    ["RUN dd if=/dev/zero of=/big bs=1M count=200", "COPY big /big"],
)
def test_a_full_disk_is_said_and_leaves_nothing(small, context, step) -> None:
    folder = context(f"FROM BASE\nRUN echo first > /first\n{step}\n")
    if "COPY" in step:
        with (folder / "big").open("wb") as stream:
            stream.truncate(200 << 20)
    done = small("build", "-t", "full:1", str(folder), code=2)
    assert "No space left on device" in done.stderr
    assert small.store.image("full:1") is None
    assert left_behind(small) == []
    used = os.statvfs(small.paths.data)
    assert used.f_bavail * used.f_frsize > 20 << 20
    small("build", "-t", "full:1", str(context("FROM BASE\nRUN echo first > /first\n")))
