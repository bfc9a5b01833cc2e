"""Runs in tests of virtual machines: hostctl's data on a file system that is full, and has room again."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.shell import run

from .conftest import Site

pytestmark = pytest.mark.root

AT = "/srv/small"
IMAGE, SIZE = "/var/small.img", "200M"
FEATURES = "^orphan_file,^metadata_csum_seed"  # newer than the oldest kernel that is to mount it
UNPACK = f"base64 -d | gunzip | dd of={IMAGE} bs=64k conv=sparse 2> /dev/null; mkdir {AT}; mount -o loop {IMAGE} {AT}"
DATA = f"{AT}/hostctl"
PLACES = ("-e", f"hostctl_data_dir={DATA}", "-e", "hostctl_run_dir=/run/small")
BOOK = """\
  tasks: [copy: {{dest: {at}/page, content: "{level}\\n"}}]
  containers:
    web: {{image: nginx, restart: always, environment: {{LEVEL: "{level}"}}}}
"""


@pytest.fixture
def small(site: Site, tmp_path: Path) -> Iterator[Site]:
    """A file system of its own for hostctl's data; `fill` leaves little of it."""
    disk = tmp_path / "disk"
    run(["mke2fs", "-q", "-t", "ext4", "-m", "0", "-O", FEATURES, disk, SIZE])  # boxes may lack it
    packed = base64.b64encode(gzip.compress(disk.read_bytes(), 1)).decode()
    site.vm.run(["sh", "-ec", UNPACK], input=packed)
    yield site
    make_room(site)
    for book in site.folder.glob("*.yml"):
        site("destroy", "--volumes", *PLACES, book)
    site.vm.sh(f"umount {AT}; rm -rf {IMAGE} {AT} /run/small")


def fill(site: Site, free: int) -> None:
    """Leave so many MiB; the end is written, because not every block can be given away ahead of time."""
    size = f"$(($(df --output=avail -B 1M {AT} | tail -1) - {free} - 2))"
    rest = f"dd if=/dev/zero of={AT}/rest bs=4k 2> /dev/null || true" if not free else "true"
    site.vm.sh(f"fallocate -l {size}M {AT}/filler; {rest}")


def make_room(site: Site) -> None:
    site.vm.sh(f"rm -f {AT}/filler {AT}/rest")


def failures(site: Site, *words: object) -> list[dict[str, str]]:
    done = site("apply", *PLACES, *words, code=2)
    found: list[dict[str, str]] = done.json["hosts"][site.vm.name]["failures"]
    return found


def test_full_while_an_image_comes(small: Site) -> None:
    """There is no room for an image: that is said, no part of it stays, and with room the same apply makes it."""
    site = small
    book = site.write(BOOK.format(at="/run", level="one"), "full")
    fill(site, 14)
    told = failures(site, book)
    (image,) = [one for one in told if one["resource"] == "image.nginx"]
    assert f"MiB free on {DATA}" in image["message"], told
    assert "free some space there" in image["hint"]
    assert (
        site.vm.sh(f"find {DATA}/store -type f -size +1M; ls {DATA}/containers 2> /dev/null || :")
        == ""
    )
    make_room(site)
    site("apply", *PLACES, book)
    assert site.changed("plan", *PLACES, book) == []


def test_full_while_a_container_is_replaced(small: Site) -> None:
    """No byte is free: what runs goes on or comes back, the error says why, and with room everything is made."""
    site = small
    book = site.write(BOOK.format(at=AT, level="one"), "full")
    site("apply", *PLACES, book)
    fill(site, 0)
    later = site.write(BOOK.format(at=AT, level="two"), "full")
    told = failures(site, later)
    assert any("full" in one["message"] or "No space" in one["message"] for one in told), told
    assert site.vm.sh(f"cat {AT}/page") == "one\n"
    make_room(site)
    site("apply", *PLACES, later)
    assert site.changed("plan", *PLACES, later) == []
    assert site.vm.sh(f"cat {AT}/page") == "two\n"
