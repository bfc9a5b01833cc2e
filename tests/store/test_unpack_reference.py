"""A tree with everything in it, packed by GNU tar: what we unpack is what GNU tar and umoci unpack."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.agent.host import Host
from hostctl_host.store.store import Store

from tests.store import calls

pytestmark = pytest.mark.root

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
# acl(5) as the kernel has it: version 2; entries of tag, permissions, id.
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [
        (0x01, 6, 2**32 - 1),
        (0x02, 4, 1234),
        (0x04, 4, 2**32 - 1),
        (0x10, 4, 2**32 - 1),
        (0x20, 0, 2**32 - 1),
    ]
)


def hard_case(root: Path) -> None:
    """Files that tools have unpacked wrongly."""
    root.mkdir()
    (root / "bin").mkdir(mode=0o755)
    (root / "bin/su").write_bytes(b"\x7fELF" * 1000)
    os.chown(root / "bin/su", 0, 42)
    os.chmod(root / "bin/su", 0o4755)
    os.link(root / "bin/su", root / "bin/also-su")
    (root / "bin/ping").write_bytes(b"p")
    os.setxattr(root / "bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "bin/ping", "user.note", "grüße\n".encode())
    (root / "acl").write_text("x")
    os.chmod(root / "acl", 0o640)
    os.setxattr(root / "acl", "system.posix_acl_access", ACL)
    (root / "acls").mkdir()
    os.setxattr(root / "acls", "system.posix_acl_default", ACL)
    (root / "tmp").mkdir()
    os.chmod(root / "tmp", 0o1777)
    (root / "shared").mkdir()
    os.chown(root / "shared", 1000, 4_000_000_000)
    os.chmod(root / "shared", 0o2770)
    (root / "unreadable").mkdir()
    (root / "unreadable/file").write_text("x")
    os.chmod(root / "unreadable/file", 0)
    os.chmod(root / "unreadable", 0o500)
    with open(root / "sparse", "wb") as file:
        for part in range(9):
            file.seek(part << 20)
            file.write(b"part%d" % part * 2000)
        file.truncate(16 << 20)
    os.mkfifo(root / "fifo", 0o622)
    os.chmod(root / "fifo", 0o622)
    os.symlink("/etc/passwd", root / "absolute")
    os.symlink("x" * 300, root / "long-link")
    os.symlink(b"caf\xe9", os.fsencode(root / "latin-link"))
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")).write_text("latin")
    (root / "über-日本").write_text("utf-8")
    deep = root / ("d" * 120) / ("e" * 120) / ("f" * 120)
    deep.mkdir(parents=True)
    (deep / ("n" * 250)).write_text("deep")
    (root / " spaces and\nlines").write_text("odd")
    (root / "-rf").write_text("an option")
    (root / "empty").write_bytes(b"")
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        moment = 1_500_000_000_123_456_789 - number * 1_000_000_007
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    os.utime(root / "empty", ns=(-5_500_000_000, -5_500_000_000))


def described(root: Path) -> dict[str, Any]:
    """All of a tree that a container could see."""
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = os.fsencode(path.relative_to(root)).decode("latin-1")
        kind = stat.S_IFMT(status.st_mode)
        row = {
            "mode": oct(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
            "mtime": status.st_mtime_ns,
            "xattrs": {
                attribute: os.getxattr(path, attribute, follow_symlinks=False)
                for attribute in sorted(os.listxattr(path, follow_symlinks=False))
            },
        }
        if kind == stat.S_IFLNK:
            row["target"] = os.readlink(os.fsencode(path))
        if kind == stat.S_IFREG:
            row["content"] = path.read_bytes()
            row["links"] = (status.st_nlink, inodes.setdefault(status.st_ino, name))
        found[name] = row
    return found


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The tree, and the tar that GNU tar made of it."""
    base = tmp_path_factory.mktemp("hard")
    hard_case(base / "tree")
    tool("tar", "-C", base / "tree", "--format=pax", "-S", *XATTRS, "-cf", base / "hard.tar", ".")
    yield base / "tree", base / "hard.tar"


XATTRS = ("--xattrs", "--xattrs-include=*", "--numeric-owner")


def tool(*argv: object) -> None:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def ours(host: Host, packed: tuple[Path, Path]) -> Path:
    """What we made of the tar."""
    calls.import_(host, packed[1].read_bytes(), name="hard:1")
    store = Store(host.paths.data)
    (short,) = store.lower(store.resolve("hard:1") or "")
    return Path(store.links_dir, short)


def test_as_gnu_tar_unpacks_it(ours: Path, packed: tuple[Path, Path], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    tool("tar", "-C", theirs, "-p", "--same-owner", *XATTRS, "-xf", packed[1])
    assert described(ours) == described(theirs)
    assert described(ours) == described(packed[0])


def test_as_umoci_unpacks_it(host: Host, ours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    folder.mkdir()
    tool("tar", "-C", folder, "-xf", calls.save(host, tmp_path / "s.tar", "hard:1"))
    tool("umoci", "unpack", "--image", f"{folder}:1", tmp_path / "bundle")
    theirs = described(tmp_path / "bundle" / "rootfs")
    assert described(ours) == theirs


def test_holes_stay_holes(ours: Path) -> None:
    status = (ours / "sparse").stat()
    assert status.st_size == 16 << 20
    assert status.st_blocks * 512 < 2 << 20


def test_the_config_says_what_was_imported(host: Host, ours: Path) -> None:
    assert ours.is_dir()
    store = Store(host.paths.data)
    config = store.config(store.resolve("hard:1") or "")
    assert config["rootfs"]["type"] == "layers"
    assert json.dumps(config["history"]).count("Imported from") == 1
