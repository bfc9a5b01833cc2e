"""Removing what lies in the workspace: small or large, deep, with links, half of it gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostctl_host.store.staging import remove_tree


def make(top: Path, files: int, depth: int) -> Path:
    """Folders in one another, each with so many files, and a link out of the tree in each."""
    folder = top
    for _ in range(depth):
        folder /= "below"
        folder.mkdir(parents=True)
        (folder / "link").symlink_to(top.parent / "kept")
        for number in range(files):
            (folder / f"file{number}").write_bytes(b"x")
    return top


@pytest.mark.parametrize(("files", "depth"), [(0, 1), (3, 4), (400, 1), (60, 8), (1, 40)])
def test_all_of_a_folder_goes_and_nothing_beside_it(tmp_path: Path, files: int, depth: int) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("here")
    remove_tree(str(make(tmp_path / "gone", files, depth)))
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    assert (kept / "file").read_text() == "here"


def test_what_is_not_there_is_gone_already(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "nothing"))
    assert os.listdir(tmp_path) == []
