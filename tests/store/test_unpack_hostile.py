"""Layers made to get out, to fill the disk or to break the reader: none does."""

from __future__ import annotations

import gzip
import os
import resource
import tarfile
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.store.decompress import decompress
from hostctl_host.store.unpack import Limits, unpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.box import Box
from tests.store.layers import member, tar

pytestmark = pytest.mark.root


def evil(box_name: str) -> dict[str, tuple[list, str]]:
    """Known tricks; `{out}` is the folder outside."""
    out = box_name
    return {
        "dotdot": ([member("../../outside/new", b"x")], "leaves the layer"),
        "dotdot inside": ([member("a/../../../outside/new", b"x")], "leaves the layer"),
        "dotdot folder": ([member("../../outside/", mode=0o777)], "leaves the layer"),
        "dotdot only": ([member("..", b"x")], "leaves the layer"),
        "absolute dotdot": ([member("/../outside/new", b"x")], "leaves the layer"),
        "link then write": (
            [member("l", link="../../outside"), member("l/new", b"x")],
            "leaves the layer",
        ),
        "absolute link then write": (
            [member("l", link=out), member("l/new", b"x")],
            "leads to nothing in the layer",
        ),
        "link chain": (
            [
                member("a", link="."),
                member("b", link="a/.."),
                member("c", link="b/../outside"),
                member("c/new", b"x"),
            ],
            "leaves the layer",
        ),
        "deep link chain": (
            [
                member("d/e/"),
                member("d/e/l", link="../../../../outside"),
                member("d/e/l/new", b"x"),
            ],
            "leaves the layer",
        ),
        "link loop": (
            [member("a", link="b"), member("b", link="a"), member("a/x", b"x")],
            "too many links",
        ),
        "hard link out": (
            [member("h", kind=tarfile.LNKTYPE, link="../../outside/victim")],
            "leaves the layer",
        ),
        "hard link through link": (
            [member("l", link="../../outside"), member("h", kind=tarfile.LNKTYPE, link="l/victim")],
            "leaves the layer",
        ),
        "hard link through absolute link": (
            [member("l", link=out), member("h", kind=tarfile.LNKTYPE, link="l/victim")],
            "which the layer does not have",
        ),
        "whiteout of parent": ([member(".wh...", b"")], "whiteout without a name"),
        "whiteout of itself": ([member("d/.wh..", b"")], "whiteout without a name"),
        "whiteout through link": (
            [member("l", link="../../outside"), member("l/.wh.victim", b"")],
            "leaves the layer",
        ),
        "opaque through link": (
            [member("l", link="../../outside"), member("l/.wh..wh..opq", b"")],
            "leaves the layer",
        ),
        "root as file": ([member(".", b"x")], "replace the layer's root"),
        "root as link": ([member("a/..", link="/")], "replace the layer's root"),
        "overlay redirect": (
            [member("d/", pax={"SCHILY.xattr.trusted.overlay.redirect": "/../../outside"})],
            "overlayfs's own",
        ),
        "file as folder": ([member("f", b"x"), member("f/x", b"x")], "is not a folder"),
        "link folder replaced": (
            [
                member("d/"),
                member("d/x", b"1"),
                member("d", link="../../outside"),
                member("d/new", b"x"),
            ],
            "leaves the layer",
        ),
    }


@pytest.mark.parametrize("trick", sorted(evil("")))
def test_nothing_leaves_the_layer(box: Box, trick: str) -> None:
    members, match = evil(str(box.outside))[trick]
    ref = "layer-broken" if "does not have" in match else "layer-unsafe"
    box.refuses(tar(*members), ref, match)


def test_limits(box: Box) -> None:
    data = tar(*(member(f"f{i}", b"x" * 100) for i in range(20)))
    box.refuses(data, "layer-limit", "more than 10 entries", Limits(entries=10))


def test_size_limit(box: Box) -> None:
    box.refuses(
        tar(member("f", bytes(3 << 20))), "layer-limit", "MiB of files", Limits(bytes=1 << 20)
    )


def test_huge_sparse_claim_is_refused(box: Box) -> None:
    info, _ = member("huge", b"")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "huge",
        "GNU.sparse.size": str(8 << 60),
        "GNU.sparse.map": "0,0",
    }
    box.refuses(tar((info, b"")), "layer-limit")


def test_huge_pax_header_is_not_read(box: Box) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = b"x", 1 << 32
    box.refuses(info.tobuf(tarfile.USTAR_FORMAT), "layer-broken", "a header of")


def test_folders_that_no_entry_names_count_too(box: Box) -> None:
    data = tar(member("d/" * 200 + "f", b"x"))
    box.refuses(data, "layer-unsafe", "too many folders", Limits(entries=50))


def test_ways_come_to_an_end(box: Box) -> None:
    """A link of a few bytes that is followed for each entry, through the same folders again and again."""
    way = "a/b/c/../../../" * 250
    data = tar(
        member("a/b/c/"),
        member("l", link=way),
        *(member(f"l/{number}/x", b"") for number in range(300)),
    )
    box.refuses(data, "layer-unsafe", "too long to follow", Limits(entries=10_000))


def test_names_of_folders_take_limited_memory(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostctl_host.store.unpack._FOLDER_NAMES", 10_000)
    data = tar(*(member("x" * 200 + f"{number}/") for number in range(60)))
    box.refuses(data, "layer-limit", "folders with long names")


def test_sparse_names_have_the_limit_of_names(box: Box) -> None:
    info, _ = member("x", b"")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "d/" * 3000 + "f",
        "GNU.sparse.size": "0",
        "GNU.sparse.map": "0,0",
    }
    box.refuses(tar((info, b"")), "layer-broken", "name of more than 4096 bytes")


def test_global_headers_are_not_kept(tmp_path) -> None:
    """Some hundred megabytes of them, in a process that may grow by a fifth of that."""

    def chunks():
        for number in range(400):
            line = b"=" + b"v" * (1 << 19) + b"\n"
            record = b"comment%04d" % number + line
            length = len(record) + 7
            body = b"%d " % length + record
            info = tarfile.TarInfo("g")
            info.type, info.size = b"g", len(body)
            assert len(body) == length
            yield info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)
        yield tar(member("f", b"1"))

    child = os.fork()
    if child == 0:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (60 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            unpack(chunks(), str(tmp_path))
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "root/f").read_bytes() == b"1"


_NAMES = st.sampled_from(
    [
        "a",
        "b",
        "a/b",
        "a/b/c",
        "../x",
        "/a",
        ".wh.a",
        "a/.wh..wh..opq",
        ".",
        "..",
        "a/../b",
        "l",
        "l/x",
        "l/../y",
    ]
)


_TARGETS = st.sampled_from(
    ["a", "../..", "/", "/a", "l", ".", "../../../outside", "/tmp", "a/b", ""]
)


_KINDS = st.sampled_from([b"0", b"1", b"2", b"5", b"6", b"3"])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(_NAMES, _KINDS, _TARGETS), max_size=8))
def test_fuzz_entries(tmp_path_factory, entries) -> None:
    base = tmp_path_factory.mktemp("fuzz")
    (base / "outside").mkdir()
    (base / "outside/victim").write_text("untouched")
    (base / "work").mkdir()
    box = Box(base / "work", base / "outside")
    data = tar(
        *(
            member(name, b"x" if kind == b"0" else b"", kind=kind, link=link)
            for name, kind, link in entries
        )
    )
    before = sorted(os.listdir("/tmp"))
    try:
        box.unpack(data)
    except HostctlError as error:
        assert error.ref in ("layer-unsafe", "layer-broken", "layer-device")
    box.assert_outside_untouched()
    assert [
        name for name in ("x", "y", "b", "c") if name in os.listdir("/tmp") and name not in before
    ] == []


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_fuzz_bytes(tmp_path_factory, data) -> None:
    base = tmp_path_factory.mktemp("bytes")
    good = bytearray(
        tar(member("a/"), member("a/b", b"x" * 600), member("s", link="a"), member("n" * 120, b"y"))
    )
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    packed = (
        bytes(good[:cut])
        if data.draw(st.booleans())
        else gzip.compress(bytes(good))[: max(cut, 10)]
    )
    try:
        unpack(decompress(iter([packed]), str(base)), str(base))
    except HostctlError as error:
        assert error.ref.startswith("layer-")


_PAX = st.dictionaries(
    st.sampled_from(
        [
            "path",
            "linkpath",
            "size",
            "uid",
            "gid",
            "mtime",
            "SCHILY.xattr.user.a",
            "SCHILY.xattr.security.capability",
            "SCHILY.xattr.system.posix_acl_access",
            "SCHILY.xattr.trusted.overlay.opaque",
            "GNU.sparse.major",
            "GNU.sparse.minor",
            "GNU.sparse.map",
            "GNU.sparse.name",
            "GNU.sparse.realsize",
            "GNU.sparse.size",
            "hdrcharset",
        ]
    ),
    st.one_of(
        _NAMES,
        st.integers(-1, 2**66).map(str),
        st.sampled_from(["0,0", "0,5,9", "-1", "1e9", "0.1.2", "x" * 5000, ""]),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(_NAMES, _KINDS, _TARGETS, _PAX), min_size=1, max_size=6))
def test_fuzz_pax_headers(tmp_path_factory, entries) -> None:
    """Whatever headers claim: an answer, no traceback, nothing outside, and no more than a little disk."""
    base = tmp_path_factory.mktemp("pax")
    (base / "outside").mkdir()
    (base / "outside/victim").write_text("untouched")
    (base / "work").mkdir()
    box = Box(base / "work", base / "outside")
    data = tar(
        *(
            member(name, b"xyz" if kind == b"0" else b"", kind=kind, link=link, pax=pax)
            for name, kind, link, pax in entries
        )
    )
    try:
        box.unpack(data, Limits(entries=1000, bytes=1 << 30))
    except HostctlError as error:
        assert error.ref.startswith("layer-")
        assert error.message.startswith("cannot ")
    box.assert_outside_untouched()
    used = sum(path.lstat().st_blocks for path in box.root.rglob("*")) * 512
    assert used < 1 << 20
