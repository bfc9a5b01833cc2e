"""Runs on the test machine: what a container or an image leaves for hostctl, which reads and removes it as root."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host import container, volume
from hostctl_host.agent import trees
from hostctl_host.contract.errors import CannotApply
from hostctl_host.contract.service import Healthcheck
from hostctl_host.contract.storage import Mount
from hostctl_host.monitor import client, files, state, verbs
from hostctl_host.runtime import bundle_user

from tests.kinds.shop import Shop, open_shop
from tests.runtime.workshop import until

pytestmark = pytest.mark.root

DEEP = "cd {}; i=0; while [ $i -lt 1500 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; : > f; echo deep"
ODD = r"cd {}; mkdir $(printf 'new\nline') $(printf 'no\377utf8'); ln -s /etc a; ln -s / b; mkfifo c; echo odd"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with open_shop(tmp_path, monkeypatch) as made:
        yield made


# what is removed


@pytest.mark.parametrize("script", [DEEP, ODD], ids=["deep", "odd"])
def test_what_a_container_has_made_is_removed(shop: Shop, script: str) -> None:
    """In its writable layer and in a volume: deeper than any recursion, and with names of all sorts."""
    data = shop.volume("data")
    mount = Mount("/data", "volume", data.name)
    script = f"({script.format('/tmp')}) && ({script.format('/data')})"
    assert len(shop.run("a", script, volumes=(mount,)).split()) == 2
    shop.converge(container, shop.spec("a", state="absent"))
    assert not os.path.exists(shop.paths.container("test-a-1"))
    volume_folder = shop.paths.volume(data.name)
    assert os.path.exists(volume_folder)
    volume.apply(volume.Spec(data.name, state="absent"), None, [], shop.host)
    assert not os.path.exists(volume_folder)
    assert os.path.exists("/etc/passwd")


def test_a_removal_follows_no_link_and_ends_in_its_tree(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    inside = tmp_path / "inside"
    (inside / "x" / "y" / "z").mkdir(parents=True)
    (inside / "x" / "link").symlink_to(outside)
    (inside / "x" / "y" / "up").symlink_to("../../..")
    # Names that the removal itself would use.
    for name in (".1", ".2", "x/.1", "x/y/.1"):
        (inside / name).mkdir()
        (inside / name / "f").touch()
    os.mkfifo(inside / "x" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(inside / "x" / "socket"))
    trees.remove(str(inside))
    assert not inside.exists()
    trees.remove(str(inside))
    assert [path.name for path in outside.iterdir()] == ["kept"]
    link = tmp_path / "link"
    link.symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        trees.remove(str(link))
    assert (outside / "kept").exists()


# what is read of an image


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "device", "etc"])
def test_accounts_of_an_image_that_are_no_file(tmp_path: Path, kind: str) -> None:
    etc = tmp_path / "layer" / "etc"
    etc.mkdir(parents=True)
    passwd = etc / "passwd"
    if kind == "pipe":
        os.mkfifo(passwd)
    elif kind == "link":
        passwd.symlink_to("/etc/passwd")
    elif kind == "folder":
        passwd.mkdir()
    elif kind == "device":
        os.mknod(passwd, 0o20644, os.makedev(1, 5))
    else:
        etc.rmdir()
        etc.symlink_to("/etc")
    assert bundle_user.identity("0", (), [str(etc.parent)]) == (0, 0, [0])
    with pytest.raises(CannotApply, match="has no such user"):
        bundle_user.identity("daemon", (), [str(etc.parent)])


@pytest.mark.parametrize("number", ["x", "-1", "4294967295", "1e3", "\u0663", "9" * 5000, ""])
def test_accounts_with_numbers_that_are_none(tmp_path: Path, number: str) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(f"app:x:{number}:{number}::/:/bin/sh\napp:x:7:8::/:/bin/sh\n")
    (etc / "group").write_text(f"app:x:{number}:app\nlogs:x:9:app\n")
    assert bundle_user.identity("app", (), [str(tmp_path)]) == (7, 8, [8, 9])
    with pytest.raises(CannotApply, match="no such group"):
        bundle_user.identity("0:app", (), [str(tmp_path)])


# what is looked up in a running container


@pytest.mark.parametrize(
    "trap",
    [
        "rm /etc/passwd; mkfifo /etc/passwd",
        "rm /etc/passwd; ln -s /dev/zero /etc/passwd",
        "rm /etc/passwd; ln -s /proc/self/fd/0 /etc/passwd",
        "rm /etc/passwd; ln -s passwd /etc/passwd",
        "rm -r /etc; ln -s /proc/1/root/etc /etc",
        "truncate -s 100G /etc/passwd",
    ],
)
def test_who_runs_a_healthcheck_is_looked_up_in_a_trap(shop: Shop, trap: str) -> None:
    """It ends, whatever the container's own files are; and says nothing of the host's."""
    spec = shop.spec("a", f"{trap}; touch /tmp/set; sleep 1000")
    shop.converge(container, spec)
    until((shop.root(spec.name) / "tmp" / "set").exists)
    hook = {"command": ["true"], "user": "daemon"}  # the host has one
    with pytest.raises(Exception, match="daemon"):
        client.run(shop.paths, spec.name, hook, 20)
    assert client.run(shop.paths, spec.name, {"command": ["true"], "user": "0"}, 20) == (0, "")


# what it says


@pytest.mark.parametrize(
    "says",
    [
        r"head -c 300000 /dev/urandom",
        r"head -c 300000 /dev/zero",
        r"yes | head -c 3000000",
        r"printf '\377\376 \355\240\200 \033]0;x\007 \342\200\256'",
    ],
)
def test_what_a_healthcheck_prints(shop: Shop, says: str) -> None:
    check = Healthcheck(test=("CMD-SHELL", f"{says}; exit 1"), interval=0.1, retries=1)
    spec = shop.spec("a", healthcheck=check)
    shop.converge(container, spec)
    folder = shop.paths.container_run(spec.name)

    def unhealthy() -> bool:
        now = state.read(folder)
        return bool(now and now.health and now.health["status"] == "unhealthy")

    until(unhealthy, 30)
    now = client.status(shop.paths, spec.name)
    assert now.health is not None
    assert all(len(look["output"]) <= 4096 for look in now.health["log"])
    row = verbs.describe(shop.paths, spec.name)
    assert row is not None
    assert "(unhealthy)" in json.loads(json.dumps(row).encode("ascii"))["status"]


def test_what_a_container_does_to_its_own_pipes(shop: Shop) -> None:
    """It owns them: who comes after it gets what he needs all the same."""
    fiddle = (
        "chmod 000 /proc/self/fd/1; chown 1234 /proc/self/fd/2; echo out; echo err >&2;"
        " dd if=/dev/zero of=/proc/self/fd/1 bs=100k count=1 2>/dev/null; echo; echo last"
    )
    printed = shop.run("a", fiddle)
    # Of two pipes nobody knows which was written first.
    assert "err\n" in printed
    assert printed.replace("err\n", "", 1).startswith("out\n")
    assert printed.endswith("last\n")
    name = shop.spec("a").name
    assert client.start(shop.paths, name).status in (state.RUNNING, state.EXITED)
    until(lambda: client.status(shop.paths, name).status == state.EXITED)
    assert shop.output(name).count("last\n") == 2
    assert not os.path.exists(os.path.join(shop.paths.container_run(name), files.CRASH))


def test_a_container_that_forks_without_end_is_ended(shop: Shop) -> None:
    bomb = (
        "trap '' TERM; f() { f & f & wait; }; mkfifo /tmp/never; touch /tmp/set;"
        " f 2> /dev/null & while :; do read line < /tmp/never; done 2> /dev/null"
    )
    spec = shop.spec("a", bomb, pids_limit=200)
    shop.converge(container, spec)
    until((shop.root(spec.name) / "tmp" / "set").exists)
    now = client.stop(shop.paths, spec.name)
    assert (now.status, now.exit_code) == (state.EXITED, 137)
    client.remove(shop.paths, spec.name)
