"""Runs in tests: what is asked of containers with users of their own."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from hostctl_host import container
from hostctl_host.monitor import client
from hostctl_host.runtime import id_ranges, idmap_probe

from tests.runtime.workshop import BUSYBOX

from ..shop import Shop


def mapped() -> bool:
    return idmap_probe.folder(os.path.dirname(__file__))


def started(shop: Shop, name: str, **fields: object) -> tuple[container.Spec, int]:
    spec = shop.spec(name, userns_mode="private", **fields)
    shop.converge(container, spec)
    return spec, client.status(shop.paths, spec.name).pid


def first(shop: Shop) -> int:
    return id_ranges._given(shop.paths)[0][1]


def data(shop: Shop, name: str) -> Path:
    return Path(shop.paths.volume(f"test_{name}"), "_data")


def image_folder(shop: Shop, path: str = "srv") -> Path:
    """A folder of the image with owners, bits, attributes, a link and a hard link."""
    folder = shop.layer / path
    (folder / "sub").mkdir(parents=True)
    program = folder / "sub" / "program"
    shutil.copy(BUSYBOX, program)
    os.chown(program, 1000, 44)
    os.chmod(program, 0o6755)
    os.link(program, folder / "again")
    subprocess.run(["setcap", "cap_net_raw+ep", str(shop.layer / "bin" / "busybox")], check=True)
    os.symlink("sub/program", folder / "link")
    os.chown(folder / "link", 7, 8, follow_symlinks=False)
    # All for the user 1000 besides the owner: version 2; tag, permissions, number.
    entries = [(1, 7, -1), (2, 7, 1000), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(folder / "sub", "system.posix_acl_access", struct.pack("<I", 2) + packed)
    os.chown(folder, 1000, 1000)
    os.chmod(folder, 0o2750)
    return folder


def look(folder: Path, base: int = 0) -> list[tuple[str, int, int, str]]:
    """(path, owner, group, mode) of everything, owners counted from `base`."""
    found = []
    for path in (folder, *sorted(folder.rglob("*"))):
        status = os.lstat(path)
        where = str(path.relative_to(folder))
        found.append((where, status.st_uid - base, status.st_gid - base, oct(status.st_mode)))
    return found
