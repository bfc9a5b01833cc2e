"""Runs in tests: containers with users of their own (`userns_mode: private`): their files, programs and volumes."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hostctl_host import config, container, secret
from hostctl_host.contract.change import Action
from hostctl_host.contract.errors import CannotApply, Impossible
from hostctl_host.contract.storage import FileGrant, Mount
from hostctl_host.monitor import client
from hostctl_host.runtime import id_ranges

from tests.runtime.workshop import until

from ..shop import Shop
from .users import data, first, image_folder, look, mapped, started

pytestmark = pytest.mark.root


def test_its_users_are_others_of_the_host(shop: Shop) -> None:
    _, pid = started(shop, "a", user="app")
    own = first(shop)
    for name in ("uid_map", "gid_map"):
        assert Path(f"/proc/{pid}/{name}").read_text().split() == ["0", str(own), "65536"]
    assert own % 65536 == 0
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{own + 1000}\t{own + 1000}" in status
    assert f"Gid:\t{own + 1000}\t{own + 1000}" in status
    assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_files(shop: Shop) -> None:
    shop.volume("data")
    shop.converge(container, shop.spec("x", "true"))
    script = (
        "set -e; id -u; stat -c %u:%g / /bin /etc/hosts /data /tm /bin/busybox; echo hi > /data/file; mkdir /made;"
        " touch /tm/x /made/y; chown 1000:1000 /data/file; echo 1.2.3.4 x >> /etc/hosts; stat -c %u:%g /data/file"
    )
    fields = {"volumes": (Mount("/data", source="test_data"),), "tmpfs": ("/tm",)}
    output = shop.run("a", script, userns_mode="private", **fields)
    assert output.split() == ["0", *["0:0"] * 6, "1000:1000"]
    base = 0 if mapped() else first(shop)
    folder = Path(shop.paths.volume("test_data"), "_data")
    assert folder.stat().st_uid == base
    assert (folder / "file").stat().st_uid == base + 1000
    upper = Path(shop.paths.container("test-a-1"), "upper")
    assert (upper / "made").stat().st_uid == base
    assert shop.layer.stat().st_uid == 0


def test_a_new_volume_has_the_images_owners(shop: Shop) -> None:
    folder = image_folder(shop)
    shop.volume("data")
    script = "stat -c %u:%g:%a /srv /srv/link /srv/sub/program; cat /proc/self/uid_map"
    mounts = (Mount("/srv", source="test_data"),)
    out = shop.run("web", script, userns_mode="private", volumes=mounts)
    assert out.split()[:3] == ["1000:1000:2750", "7:8:777", "1000:44:6755"]
    base = 0 if mapped() else first(shop)
    assert look(data(shop, "data"), base) == look(folder)
    acl = os.getxattr(data(shop, "data") / "sub", "system.posix_acl_access")
    assert struct.pack("<HHI", 2, 7, base + 1000) in acl


def test_programs_of_the_image_keep_bits_and_capabilities(shop: Shop) -> None:
    folder = image_folder(shop)
    folder.chmod(0o755)
    out = shop.run("a", "stat -c %u:%g:%a /srv/sub/program", userns_mode="private", user="5:44")
    assert out == "1000:44:6755\n"
    _, pid = started(shop, "b", user="5", script="exec sleep 1000")
    status = Path(f"/proc/{pid}/status").read_text()
    assert "CapEff:\t0000000000002000" in status  # net_raw, of the file
    if mapped():
        assert not (Path(shop.paths.data) / "store" / "shifted").exists()
        return
    copy = Path(shop.paths.data, "store", "shifted", str(first(shop)), "l1")
    assert look(copy / "srv", first(shop)) == look(folder)
    assert (copy / "srv" / "again").samefile(copy / "srv" / "sub" / "program")
    assert (copy / "srv/sub/program").stat().st_mtime_ns == (
        folder / "sub/program"
    ).stat().st_mtime_ns
    assert look(folder)[0][1] == 1000


def test_secrets_and_configs_have_their_owners(shop: Shop) -> None:
    for kind, spec in ((secret, shop.secret("s", b"1")), (config, shop.config("c", b"2"))):
        shop.converge(kind, spec)
    out = shop.run(
        "a",
        "stat -c %u:%g:%a /run/secrets/s /c; cat /run/secrets/s",
        userns_mode="private",
        secrets=(FileGrant("test_s", "/run/secrets/s", 1000, 44, "0400"),),
        configs=(FileGrant("test_c", "/c"),),
    )
    assert out.split() == ["1000:44:400", "0:0:444", "1"]


def test_what_enters_later_has_the_same_users(shop: Shop) -> None:
    own = "grep -E '^(Uid|Gid)' /proc/self/status; readlink /proc/self/ns/user; echo more > /dev/stdout"
    spec, pid = started(shop, "a", user="app", script=f"{own}; exec sleep 1000")
    until(lambda: "more" in shop.output(spec.name))
    space = os.readlink(f"/proc/{pid}/ns/user")
    wanted = ["Uid:", *["1000"] * 4, "Gid:", *["1000"] * 4, space, "more"]
    assert shop.output(spec.name).split() == wanted
    hook = {"command": ["sh", "-c", own], "user": "", "privileged": False, "environment": {}}
    code, said = client.run(shop.paths, spec.name, hook, 10)
    assert (code, said.split()) == (0, wanted)
    spec, _ = started(shop, "b", user="5")
    code, said = client.run(shop.paths, spec.name, {**hook, "user": "app"}, 10)
    assert (code, said.split()[:2], said.split()[-1]) == (0, ["Uid:", "1000"], "more")
    code, said = client.run(shop.paths, spec.name, {**hook, "user": "0"}, 10)
    assert (code, said.split()[:2]) == (0, ["Uid:", "0"])


def test_binds_belong_to_the_host_unless_asked(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "bound"
    folder.mkdir()
    (folder / "file").write_text("x")
    os.chown(folder / "file", 0, 1000)
    out = shop.run(
        "a",
        "stat -c %u:%g /b /b/file; touch /b/no 2>/dev/null || echo refused; touch /new/yes",
        userns_mode="private",
        volumes=(Mount("/b", "bind", str(folder)), Mount("/new", "bind", str(tmp_path / "new"))),
    )
    assert out.split() == ["65534:65534", "65534:65534", "refused"]
    assert (tmp_path / "new" / "yes").stat().st_uid == first(shop)
    asked = {"volumes": (Mount("/b", "bind", str(folder), idmap=True),), "userns_mode": "private"}
    script = "stat -c %u:%g /b /b/file; touch /b/yes"
    if not mapped():
        with pytest.raises(CannotApply, match="cannot map owners"):
            shop.run("b", script, **asked)
        assert folder.stat().st_uid == 0
        assert not os.path.exists(shop.paths.container("test-b-1"))
        return
    assert shop.run("b", script, **asked).split() == ["0:0", "0:1000"]
    assert (folder / "yes").stat().st_uid == 0


def test_a_tmpfs_volume_is_its_own(shop: Shop) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,mode=0700"}
    shop.volume("memory", driver_opts=options)
    shop.volume("plain", driver_opts={"type": "tmpfs", "device": "tmpfs"})
    mounts = (Mount("/m", source="test_memory"), Mount("/p", source="test_plain"))
    out = shop.run(
        "a", "touch /p/x; stat -c %u:%g /m /p /p/x", userns_mode="private", volumes=mounts
    )
    assert out.split() == ["1000:0", "0:0", "0:0"]


def test_a_volume_goes_along_when_the_users_change(shop: Shop) -> None:
    shop.volume("data")
    mounts = (Mount("/d", source="test_data"),)
    plain = shop.spec(
        "a", "test -e /d/x || (echo > /d/x; chown 1000 /d/x); sleep 1000", volumes=mounts
    )
    shop.converge(container, plain)
    until((data(shop, "data") / "x").exists)
    private = replace(plain, userns_mode="private")
    (change,) = shop.plan(container, private)
    assert (change.action, change.field, change.after) == (Action.REPLACE, "userns_mode", "private")
    shop.converge(container, private)
    seen = (shop.root(plain.name) / "d/x").stat().st_uid
    assert seen == first(shop) + 1000
    base = 0 if mapped() else first(shop)
    assert (data(shop, "data") / "x").stat().st_uid == base + 1000
    other = shop.spec("b", volumes=mounts)
    if mapped():
        shop.converge(container, other)
        assert (shop.root(other.name) / "d/x").stat().st_uid == 1000
    else:
        with pytest.raises(
            CannotApply, match="cannot share a volume between test-b-1 and test-a-1"
        ):
            shop.converge(container, other)
    shop.converge(container, replace(other, state="absent"))
    shop.converge(container, plain)
    assert (data(shop, "data") / "x").stat().st_uid == 1000
    assert id_ranges._given(shop.paths) == []


def test_shared_namespaces_are_of_one_user_namespace(shop: Shop) -> None:
    _, giver = started(shop, "a", ipc="shareable")
    spec, pid = started(shop, "b", pid="container:test-a-1", ipc="container:test-a-1")
    for kind in ("user", "pid", "ipc"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/{giver}/ns/{kind}")
    _, said = client.run(
        shop.paths, spec.name, {"command": ["stat", "-c%u", "/proc/1", "/dev/shm"]}, 5
    )
    assert said.split() == ["0", "0"]
    shop.host.changes.clear()
    with pytest.raises(Impossible, match="it has other users"):
        shop.plan(container, shop.spec("c", pid="container:test-a-1"))


def test_a_terminal_belongs_to_its_user(shop: Shop) -> None:
    spec, _ = started(shop, "a", user="app", tty=True, script="stat -c %u $(tty); exec sleep 1000")
    until(lambda: "1000" in shop.output(spec.name))
