"""Kill -9 before each single change of the file system: the store stays valid, and the next one cleans up.

An audit hook counts what changes files and kills its own process at the n-th of them, so no point is missed.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hostctl_host.agent.host import Host
from hostctl_host.store import collect as _collect  # noqa: F401 # before the forks
from hostctl_host.store.store import Store

from tests.store import calls
from tests.store.layers import TestImage, member, tar
from tests.store.test_archive import layout
from tests.store.test_crash import assert_valid

pytestmark = pytest.mark.root

_CHANGES = {
    "os.rename",
    "os.link",
    "os.symlink",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.chown",
    "os.truncate",
    "os.setxattr",
    "os.utime",
    "shutil.rmtree",
    "subprocess.Popen",
    "fcntl.flock",
}


@pytest.fixture(autouse=True)
def temporary_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed leaves what he made in the machine's temporary folder: here it goes with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def killed_at(number: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child that is killed before its n-th change; False where it came to its end before."""
    child = os.fork()
    if child == 0:
        left = number

        def hook(event: str, args: tuple) -> None:
            nonlocal left
            written = (
                event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            )
            if event in _CHANGES or written:
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            act()
        except BaseException:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def archive_of(folder: Path, name: str, *layers: bytes) -> tuple[Path, TestImage]:
    made = TestImage(list(layers), config={"Cmd": ["sh"]})
    path = folder / "image.tar"
    path.write_bytes(tar(*(member(n, d) for n, d in layout(made, names=(name,)).items())))
    return path, made


LAYERS = (
    tar(member("a/"), member("a/b", b"x" * 5000), member("a/l", link="b")),
    tar(member("a/.wh.b", b""), member("c", b"y", mode=0o4755)),
)


def everywhere(store: Store, act: Callable[[], object], reset: Callable[[], object]) -> int:
    """Kill `act` at every point, and look at the store each time; the number of points."""
    number = 1
    while killed_at(number, act):
        if os.path.exists(os.path.join(store.root, "oci-layout")):
            assert_valid(Store(os.path.dirname(store.root)))
        reset()
        number += 1
        assert number < 1000
    return number


def assert_clean(store: Store) -> None:
    assert os.listdir(os.path.join(store.root, "tmp")) == []
    assert [path for path in Path(store.root).rglob("*") if ".hostctl-" in path.name] == []


def test_load(host: Host, store: Store, tmp_path: Path) -> None:
    path, made = archive_of(tmp_path, "shop/web:1", *LAYERS)

    def reset() -> None:
        if store.image("shop/web:1"):
            store.remove("shop/web:1")

    assert everywhere(store, lambda: calls.load(host, path), reset) > 60
    calls.load(host, path)
    assert store.resolve("shop/web:1") == made.image_id
    assert_valid(store)
    assert_clean(store)
    assert len(os.listdir(os.path.join(store.root, "layers"))) == 2 * len(LAYERS) + 1


def test_remove(host: Host, store: Store, tmp_path: Path) -> None:
    """The layers that another image has are never touched."""
    path, made = archive_of(tmp_path, "shop/web:1", *LAYERS)
    other, kept = archive_of(tmp_path, "shop/web:2", LAYERS[0])
    calls.load(host, other)
    path, _ = archive_of(tmp_path, "shop/web:1", *LAYERS)
    calls.load(host, path)

    def again() -> None:
        assert store.resolve("shop/web:2") == kept.image_id
        calls.load(host, path)

    act = lambda: calls.call(host, "rm", names=["shop/web:1"])  # noqa: E731
    assert everywhere(store, act, again) > 8
    assert store.resolve("shop/web:1") is None
    assert_valid(store)
    assert_clean(store)
    assert os.path.isdir(os.path.join(store.links_dir, store.lower(kept.image_id)[0]))
    assert not store.has_blob(made.image_id)


def test_prune_and_tag(host: Host, store: Store, tmp_path: Path) -> None:
    path, made = archive_of(tmp_path, "shop/web:1", *LAYERS)
    calls.load(host, path)

    def act() -> None:
        calls.call(host, "tag", source=made.image_id, target="shop/also:1")
        calls.call(host, "prune", all=True)

    assert everywhere(store, act, lambda: calls.load(host, path)) > 10
    assert store.images() == ()
    assert_clean(store)
    assert os.listdir(os.path.join(store.root, "blobs/sha256")) == []
