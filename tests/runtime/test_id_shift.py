"""Files that are given to others keep their modes and capabilities, wherever that is interrupted."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.runtime import id_shift

pytestmark = pytest.mark.root

FIRST = 0x70000000
CAP_NET_RAW = 1 << 13


class Killed(Exception):
    """Stands for the end of the process."""


def _renumber(number: int) -> int:
    return number + FIRST if number < 65536 else number


def _made(folder: Path) -> None:
    (folder / "sub").mkdir()
    for name, mode in (("setuid", 0o4755), ("setgid", 0o2710), ("sub/plain", 0o640)):
        path = folder / name
        path.write_text(name)
        os.chown(path, 1000, 44)
        path.chmod(mode)
    (folder / "able").write_text("able")
    value = struct.pack("<IIIII", 0x02000000 | 1, CAP_NET_RAW, 0, 0, 0)
    os.setxattr(folder / "able", id_shift.CAPABILITY, value)
    (folder / "link").symlink_to("/etc/passwd")


def _found(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        names = os.listxattr(path, follow_symlinks=False)
        value = os.getxattr(path, id_shift.CAPABILITY) if id_shift.CAPABILITY in names else b""
        assert not [name for name in names if name.startswith("trusted.hostctl")]
        found[path.name] = (status.st_uid, status.st_gid, status.st_mode, value)
    return found


@pytest.mark.parametrize("call", ["setxattr", "fchown", "fchmod", "removexattr"])
@pytest.mark.parametrize("before", [True, False])
def test_a_change_that_is_killed_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: bool
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        _made(folder)
    id_shift.tree(str(whole), _renumber)
    wanted = _found(whole)
    assert wanted["setuid"][:3] == (FIRST + 1000, FIRST + 44, 0o104755)
    assert wanted["able"][3] == struct.pack("<IIIIII", 0x03000000 | 1, CAP_NET_RAW, 0, 0, 0, FIRST)
    for moment in range(20):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, _Fatal(getattr(os, call), moment, before))
            try:
                id_shift.tree(str(broken), _renumber)
            except Killed:
                continue
        break
    else:
        raise AssertionError("it never came to its end")
    assert moment > 1
    assert _found(broken) == wanted


class _Fatal:
    """A call that kills, at some moment, before or after it has done what it does."""

    def __init__(self, real: Callable[..., None], moment: int, before: bool) -> None:
        self._real, self._left, self._before = real, moment, before

    def __call__(self, *args: Any, **more: Any) -> None:
        self._left -= 1
        if self._left < 0 and self._before:
            raise Killed
        self._real(*args, **more)
        if self._left < 0:
            raise Killed
