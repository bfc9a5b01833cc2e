"""Blobs that came in part: kept, locked while they are filled, and gone when nobody wants them any more."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.store.parts import Part, folder, sweep_parts
from hostctl_host.store.staging import prepared
from hostctl_host.store.store import Store

DATA = b"0123456789"
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path))
    with prepared(made):
        return made


def test_it_goes_on_where_it_stopped(store: Store) -> None:
    part = Part(store, DIGEST, len(DATA))
    part.write(0, DATA[:4])
    part.close()
    part = Part(store, DIGEST, len(DATA))
    assert (part.position, part.whole) == (4, False)
    with pytest.raises(HostctlError, match="begins at byte 5 instead of 4"):
        part.write(5, b"x")
    part.write(4, DATA[4:])
    assert part.whole and part.commit()
    part.close()
    assert Path(store.blob_path(DIGEST)).read_bytes() == DATA
    assert os.listdir(folder(store)) == []


def test_wrong_bytes_never_become_a_blob(store: Store) -> None:
    part = Part(store, DIGEST, len(DATA))
    part.write(0, b"x" * len(DATA))
    assert not part.commit()
    assert part.position == 0
    part.close()
    assert not store.has_blob(DIGEST)
    assert os.listdir(folder(store)) == []


def test_what_is_too_long_is_refused_or_begun_anew(store: Store) -> None:
    part = Part(store, DIGEST, len(DATA))
    with pytest.raises(HostctlError):
        part.write(0, DATA + b"x")
    part.close()
    Path(folder(store), DIGEST[7:]).write_bytes(DATA + b"more")
    part = Part(store, DIGEST, len(DATA))
    assert part.position == 0
    part.close()


def test_old_parts_go_and_those_in_use_stay(store: Store) -> None:
    old, new, used = ("sha256:" + digit * 64 for digit in "123")
    parts = {}
    for digest in (old, new, used):
        parts[digest] = Part(store, digest, 100)
        parts[digest].write(0, b"some")
    for digest in (old, new):
        parts[digest].close()
    for digest in (old, used):
        os.utime(Path(folder(store), digest[7:]), (1, 1))
    assert sweep_parts(store) == 4
    assert sorted(os.listdir(folder(store))) == [new[7:], used[7:]]
    assert sweep_parts(store, 0) == 4
    parts[used].close()
    assert os.listdir(folder(store)) == [used[7:]]


def test_a_link_in_its_place_is_not_followed(store: Store, tmp_path: Path) -> None:
    os.makedirs(folder(store))
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    Path(folder(store), DIGEST[7:]).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        Part(store, DIGEST, len(DATA))
    assert victim.read_text() == "untouched"
