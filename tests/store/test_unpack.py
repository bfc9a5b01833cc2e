"""Layers as folders: owners, links, sparse files, whiteouts, compressions."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile

import pytest
from hostctl_host.contract.errors import HostctlError

from tests.store.box import Box
from tests.store.layers import member, sha256, tar

pytestmark = pytest.mark.root


def test_keeps_owners_modes_times_and_links(box: Box) -> None:
    data = tar(
        member("./", mode=0o751, uid=3),
        member("a/", mode=0o2775, uid=1000, gid=1001, mtime=1_500_000_000.25),
        member("a/suid", b"x" * 70_000, mode=0o4755, uid=12, gid=13, mtime=1_500_000_001.123456789),
        member("a/hard", kind=tarfile.LNKTYPE, link="a/suid"),
        member("a/soft", link="/etc/passwd", uid=7, mtime=1_400_000_000),
        member("a/fifo", kind=tarfile.FIFOTYPE, mode=0o640),
        member("empty", b"", mode=0),
        member("x" * 200 + "/" + "y" * 150, b"long"),
    )
    done = box.unpack(data)
    assert done.diff_id == sha256(data)[7:]
    assert (done.size, done.opaque) == (70_004, False)
    root = box.root
    assert (root.stat().st_mode & 0o7777, root.stat().st_uid) == (0o751, 3)
    folder, suid = (root / "a").stat(), (root / "a/suid").stat()
    assert (folder.st_mode & 0o7777, folder.st_uid, folder.st_gid) == (0o2775, 1000, 1001)
    assert folder.st_mtime_ns == 1_500_000_000_250_000_000
    assert (suid.st_mode & 0o7777, suid.st_uid, suid.st_gid) == (0o4755, 12, 13)
    assert abs(suid.st_mtime_ns - 1_500_000_001_123_456_789) < 1000
    assert (suid.st_nlink, suid.st_ino) == (2, (root / "a/hard").stat().st_ino)
    soft = (root / "a/soft").lstat()
    assert os.readlink(root / "a/soft") == "/etc/passwd"
    assert (soft.st_uid, soft.st_mtime) == (7, 1_400_000_000)
    assert stat.S_ISFIFO((root / "a/fifo").stat().st_mode)
    assert (root / "a/fifo").stat().st_mode & 0o7777 == 0o640
    assert (root / "empty").stat().st_mode & 0o7777 == 0
    assert (root / ("x" * 200) / ("y" * 150)).read_bytes() == b"long"


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_all_formats(box: Box, fmt: int) -> None:
    name = "d" * 80 + "/" + "e" * 90
    box.unpack(tar(member(name, b"1", uid=2_000_000), member("l", link="t" * 99), fmt=fmt))
    assert (box.root / name).stat().st_uid == 2_000_000
    assert os.readlink(box.root / "l") == "t" * 99


def test_gnu_long_names_large_owners_and_times_before_1970(box: Box) -> None:
    name = "d" * 200 + "/" + "e" * 200
    box.unpack(
        tar(
            member(name, link="t" * 400),
            member("big", b"", uid=3_000_000_000, mtime=-5),
            fmt=tarfile.GNU_FORMAT,
        )
    )
    assert os.readlink(box.root / name) == "t" * 400
    assert (box.root / "big").stat().st_uid == 3_000_000_000
    assert (box.root / "big").stat().st_mtime == -5


def test_names_that_are_not_utf8(box: Box) -> None:
    box.unpack(tar(member("caf\udce9", b"1"), fmt=tarfile.GNU_FORMAT))
    assert os.listdir(os.fsencode(box.root)) == [b"caf\xe9"]


def test_xattrs_and_capabilities(box: Box) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    info, _ = member("ping", b"p", uid=5)
    info.pax_headers = {
        "SCHILY.xattr.user.note": "hello",
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
        "SCHILY.xattr.security.selinux": "ignored",
    }
    stream = io.BytesIO()
    # tarfile writes pax values as UTF-8, real tools write raw bytes: patch the placeholder.
    info.pax_headers["SCHILY.xattr.security.capability"] = "C" * len(capability)
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"p"))
    box.unpack(stream.getvalue().replace(b"C" * len(capability), capability))
    assert os.getxattr(box.root / "ping", "user.note") == b"hello"
    assert os.getxattr(box.root / "ping", "security.capability") == capability
    assert "security.selinux" not in os.listxattr(box.root / "ping")


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--sparse-version=0.0"],
        ["--sparse-version=0.1"],
        ["--sparse-version=1.0"],
    ],
)
def test_sparse_files(box: Box, tmp_path, options: list[str]) -> None:
    source = tmp_path / "work" / "source"
    with open(source, "wb") as file:
        for part in range(12):
            file.seek(part << 20)
            file.write(b"part%d" % part * 3000)
        file.truncate(40 << 20)
    form = options if options[0].startswith("--format") else ["--format=pax", *options]
    data = subprocess.run(
        ["tar", "-C", source.parent, "-S", "-c", *form, "source"], check=True, capture_output=True
    ).stdout
    assert len(data) < 2 << 20
    content = source.read_bytes()
    source.unlink()
    box.unpack(data)
    made = box.root / "source"
    assert made.read_bytes() == content
    assert made.stat().st_blocks * 512 < 2 << 20


def test_whiteouts_and_opaque_folders(box: Box) -> None:
    done = box.unpack(
        tar(
            member("d/"),
            member("d/.wh.gone", b""),
            member("d/.wh..wh.plnk", b""),
            member("o/"),
            member("o/.wh..wh..opq", b""),
            member("o/new", b"n"),
        )
    )
    gone = (box.root / "d/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.listdir(box.root / "d") == ["gone"]
    assert os.getxattr(box.root / "o", "trusted.overlay.opaque") == b"y"
    assert os.listdir(box.root / "o") == ["new"]
    assert not done.opaque


@pytest.mark.parametrize("order", ["before", "after", "parent"])
def test_whiteout_and_folder_of_one_name_is_a_new_folder(box: Box, order: str) -> None:
    hide, folder, inner = member(".wh.d", b""), member("d/"), member("d/x", b"x")
    parts = {
        "before": [hide, folder, inner],
        "after": [folder, inner, hide],
        "parent": [hide, inner],
    }
    box.unpack(tar(*parts[order]))
    assert (box.root / "d/x").read_bytes() == b"x"
    assert os.getxattr(box.root / "d", "trusted.overlay.opaque") == b"y"


def test_whiteout_of_a_file_that_the_layer_brings_does_nothing(box: Box) -> None:
    box.unpack(tar(member("f", b"new"), member(".wh.f", b"")))
    assert (box.root / "f").read_bytes() == b"new"


def test_duplicates_the_last_one_wins(box: Box) -> None:
    box.unpack(
        tar(
            member("f", b"one"),
            member("f", b"two"),
            member("d/"),
            member("d/x", b"x"),
            member("d", b"now a file"),
            member("e", b"file"),
            member("e/"),
            member("e/y", b"y"),
            member("l", link="e"),
            member("l", b"was a link"),
        )
    )
    assert (box.root / "f").read_bytes() == b"two"
    assert (box.root / "d").read_bytes() == b"now a file"
    assert (box.root / "e/y").read_bytes() == b"y"
    assert (box.root / "l").read_bytes() == b"was a link"
    assert os.listdir(box.root / "e") == ["y"]


def test_links_inside_of_the_layer_are_followed(box: Box) -> None:
    box.unpack(
        tar(
            member("usr/lib/x/"),
            member("lib", link="usr/lib"),
            member("abs", link="/usr/../usr/lib"),
            member("usr/back", link="../usr/lib/x"),
            member("lib/a", b"a"),
            member("abs/b", b"b"),
            member("usr/back/c", b"c"),
            member("lib/new/d", b"d"),
        )
    )
    assert sorted(os.listdir(box.root / "usr/lib")) == ["a", "b", "new", "x"]
    assert os.listdir(box.root / "usr/lib/x") == ["c"]


def test_absolute_names_are_inside(box: Box) -> None:
    box.unpack(tar(member("/abs/file", b"x")))
    assert (box.root / "abs/file").read_bytes() == b"x"


def test_hard_link_to_a_link_links_the_link(box: Box) -> None:
    box.unpack(
        tar(
            member("l", link=str(box.outside / "victim")),
            member("h", kind=tarfile.LNKTYPE, link="l"),
            member("h", b"replaced"),
        )
    )
    assert (box.root / "h").read_bytes() == b"replaced"
    box.assert_outside_untouched()


def test_writing_to_a_link_replaces_it(box: Box) -> None:
    box.unpack(tar(member("l", link=str(box.outside / "victim")), member("l", b"mine")))
    assert (box.root / "l").read_bytes() == b"mine"
    box.assert_outside_untouched()


def test_folder_entry_over_a_link_does_not_touch_its_target(box: Box) -> None:
    box.unpack(tar(member("l", link=str(box.outside)), member("l/", mode=0o777)))
    assert not (box.root / "l").is_symlink()
    box.assert_outside_untouched()


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_are_refused_and_skipped_in_dev(box: Box, kind: bytes) -> None:
    box.unpack(tar(member("dev/"), member("dev/null", kind=kind, device=(1, 3))))
    assert os.listdir(box.root / "dev") == []
    again = Box(box.work / "again", box.outside)
    again.work.mkdir()
    with pytest.raises(HostctlError, match="device nodes are not taken from images") as caught:
        again.unpack(tar(member("etc/disk", kind=kind, device=(8, 0))))
    assert caught.value.ref == "layer-device"


def test_hard_links_to_what_is_missing(box: Box) -> None:
    box.refuses(
        tar(member("h", kind=tarfile.LNKTYPE, link="no/such")), "layer-broken", "does not have"
    )


def test_gzip_cut_off_is_said(box: Box) -> None:
    data = gzip.compress(tar(member("f", os.urandom(5000))))
    for end in (5, 1000, len(data) - 9, len(data) - 1):
        again = Box(box.work / str(end), box.outside)
        again.work.mkdir()
        with pytest.raises(HostctlError) as caught:
            again.unpack(data[:end])
        assert caught.value.ref == "layer-broken", end


def test_gzip_of_many_members(box: Box) -> None:
    data = tar(member("f", os.urandom(300_000)), member("g", b"end"))
    packed = b"".join(gzip.compress(data[i : i + 7000]) for i in range(0, len(data), 7000))
    assert box.unpack(packed).diff_id == sha256(data)[7:]
    assert (box.root / "g").read_bytes() == b"end"


def test_zstd(box: Box) -> None:
    data = tar(member("f", os.urandom(300_000)), member("g", b"end"))
    packed = subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout
    assert box.unpack(packed).diff_id == sha256(data)[7:]
    assert (box.root / "g").read_bytes() == b"end"
    again = Box(box.work / "again", box.outside)
    again.work.mkdir()
    with pytest.raises(HostctlError, match="zstd data is damaged") as caught:
        again.unpack(packed[:-100])
    assert caught.value.ref == "layer-broken"


def test_other_compressions_are_named(box: Box) -> None:
    with pytest.raises(HostctlError, match="bzip2 is no compression of images"):
        box.unpack(b"BZh91AY&SY" + bytes(100))


def test_tar_cut_off_in_a_file(box: Box) -> None:
    box.refuses(tar(member("f", bytes(10_000)))[:3000], "layer-broken", "ends inside of an entry")


def test_padding_after_the_end_counts(box: Box) -> None:
    data = tar(member("f", b"1")) + bytes(50_000) + b"trailing"
    assert box.unpack(data).diff_id == sha256(data)[7:]
