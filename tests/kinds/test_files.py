"""Runs in tests: file, directory, copy and template on a real file system: apply, apply again, put back."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hostctl_host import copy, directory, file
from hostctl_host.contract.change import Action, Reason
from hostctl_host.contract.errors import CannotApply, CannotObserve
from hypothesis import given, settings
from hypothesis import strategies as st

from .machine import converge, make_host, plan


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_copy_makes_then_leaves_alone_then_undo_removes(tmp_path: Path) -> None:
    host, blobs = make_host()
    spec = copy.Spec(str(tmp_path / "motd"), mode="0640", digest=blobs.add(b"hello\n"))
    changes, back = converge(copy, spec, host)
    assert [(c.action, c.field, c.reason) for c in changes] == [
        (Action.CREATE, "content", Reason.ABSENT),
        (Action.CREATE, "mode", Reason.ABSENT),
    ]
    assert (tmp_path / "motd").read_bytes() == b"hello\n"
    assert mode_of(tmp_path / "motd") == 0o640
    assert plan(copy, spec, host) == []
    converge(copy, back, host)
    assert list(tmp_path.iterdir()) == []


def test_copy_shows_a_text_diff_and_undo_restores_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "motd"
    path.write_text("one\ntwo\n")
    path.chmod(0o604)
    host, blobs = make_host()
    spec = copy.Spec(str(path), mode="0640", digest=blobs.add(b"one\nthree\n"))
    changes, back = converge(copy, spec, host)
    assert "-two\n+three\n" in changes[0].diff
    assert [c.field for c in changes] == ["content", "mode"]
    converge(copy, back, host)
    assert path.read_text() == "one\ntwo\n"
    assert mode_of(path) == 0o604


def test_copy_keeps_the_mode_that_it_finds_when_none_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o600)
    host, blobs = make_host()
    converge(copy, copy.Spec(str(path), digest=blobs.add(b"new")), host)
    assert (path.read_text(), mode_of(path)) == ("new", 0o600)


def test_copy_over_a_link_replaces_the_link_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to("target")
    host, blobs = make_host()
    changes, back = converge(copy, copy.Spec(str(tmp_path / "link"), digest=blobs.add(b"x")), host)
    assert changes[0].action is Action.REPLACE
    assert (tmp_path / "target").read_text() == "precious"
    assert not (tmp_path / "link").is_symlink()
    converge(copy, back, host)
    assert os.readlink(tmp_path / "link") == "target"


@pytest.mark.root
def test_root_does_not_follow_a_link_that_somebody_else_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "trap").symlink_to(tmp_path / "etc")
    os.chown(tmp_path / "home" / "trap", 1000, 1000, follow_symlinks=False)
    host, blobs = make_host()
    inside = str(tmp_path / "home" / "trap" / "x")
    for kind, spec in (
        (copy, copy.Spec(inside, digest=blobs.add(b"x"))),
        (directory, directory.Spec(inside)),
        (file, file.Spec(inside, "touch")),
        (file, file.Spec(inside, "link", src="/etc/passwd")),
    ):
        with pytest.raises(CannotApply, match="is a link that"):
            kind.apply(spec, kind.observe(spec, host), plan(kind, spec, host), host)
    assert list((tmp_path / "etc").iterdir()) == []


def test_copy_without_parent_says_what_to_declare(tmp_path: Path) -> None:
    host, blobs = make_host()
    spec = copy.Spec(str(tmp_path / "no" / "file"), digest=blobs.add(b"x"))
    with pytest.raises(CannotApply) as caught:
        copy.apply(spec, copy.observe(spec, host), plan(copy, spec, host), host)
    assert caught.value.hint == f"declare `directory: {{path: {tmp_path}/no}}` before it"


def test_copy_refused_by_validate_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("good")
    host, blobs = make_host()
    spec = copy.Spec(str(path), digest=blobs.add(b"bad"), validate="grep -q good %s")
    with pytest.raises(CannotApply, match="refused it"):
        copy.apply(spec, copy.observe(spec, host), plan(copy, spec, host), host)
    assert path.read_text() == "good"
    assert [entry.name for entry in tmp_path.iterdir()] == ["conf"]


def test_directory_with_parents_and_undo_removes_the_topmost_that_was_made(tmp_path: Path) -> None:
    host, _ = make_host()
    spec = directory.Spec(str(tmp_path / "a" / "b"), mode="0750")
    _, back = converge(directory, spec, host)
    assert mode_of(tmp_path / "a" / "b") == 0o750
    assert back.path == str(tmp_path / "a")
    converge(directory, back, host)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("state", "check"),
    [("touch", Path.is_file), ("directory", Path.is_dir), ("link", Path.is_symlink)],
)
def test_file_states(tmp_path: Path, state: str, check: object) -> None:
    host, _ = make_host()
    spec = file.Spec(str(tmp_path / "x"), state, src="elsewhere" if state == "link" else "")  # type: ignore[arg-type]
    _, back = converge(file, spec, host)
    assert check(tmp_path / "x")  # type: ignore[operator]
    converge(file, back, host)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("state", "there", "refused"),
    [
        ("file", "nothing", "it does not exist"),
        ("file", "link", "a link lies there"),
        ("touch", "link", "a link lies there"),
        ("directory", "file", "a file lies there"),
        ("link", "directory", "a directory lies there"),
        ("hard", "directory", "a directory lies there"),
    ],
)
def test_what_apply_refuses_is_refused_by_plan(
    tmp_path: Path, state: str, there: str, refused: str
) -> None:
    path = tmp_path / "x"
    {"nothing": lambda: None, "link": lambda: path.symlink_to("y"), "file": path.touch,
     "directory": path.mkdir}[there]()  # fmt: skip
    host, _ = make_host()
    with pytest.raises(CannotObserve, match=refused):
        file.observe(file.Spec(str(path), state, src=str(tmp_path)), host)  # type: ignore[arg-type]


def test_file_absent_removes_and_undo_brings_content_back(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("keep me")
    path.chmod(0o711)
    host, _ = make_host()
    changes, back = converge(file, file.Spec(str(path), "absent"), host)
    assert [c.action for c in changes] == [Action.DELETE]
    assert not path.exists()
    converge(file, back, host)
    assert (path.read_text(), mode_of(path)) == ("keep me", 0o711)


def test_hard_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    host, _ = make_host()
    converge(file, file.Spec(str(tmp_path / "b"), "hard", src=str(tmp_path / "a")), host)
    assert os.path.samefile(tmp_path / "a", tmp_path / "b")


@settings(max_examples=40, deadline=None)
@given(
    before=st.one_of(st.none(), st.binary(max_size=200)),
    after=st.binary(min_size=1, max_size=200),
    mode=st.sampled_from(["", "0600", "0644", "0755"]),
)
def test_any_content_converges_in_one_apply_and_undo_restores(
    before: bytes | None, after: bytes, mode: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        if before is not None:
            path.write_bytes(before)
        host, blobs = make_host()
        _, back = converge(copy, copy.Spec(str(path), mode=mode, digest=blobs.add(after)), host)
        assert path.read_bytes() == after
        converge(copy, back, host)
        assert (path.read_bytes() if path.exists() else None) == before
