"""Runs in tests: the ids of `userns_mode: private`: who has which, and what goes with them, kills included."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hostctl_host import container, volume
from hostctl_host.contract.storage import Mount
from hostctl_host.monitor import client
from hostctl_host.runtime import id_ranges, idmap_probe
from hostctl_host.store import shifted
from hostctl_host.store.staging import scratch, sweep

from ..shop import Shop
from .users import data, first, image_folder, look, mapped, started

pytestmark = pytest.mark.root


def test_all_goes_with_the_last_container(shop: Shop) -> None:
    shop.volume("data")
    mounts = (Mount("/d", source="test_data"),)
    one, _ = started(shop, "a", volumes=mounts)
    two, pid = started(shop, "b")
    assert len(id_ranges._given(shop.paths)) == 1
    assert Path(f"/proc/{pid}/uid_map").read_text().split()[1] == str(first(shop))
    shop.converge(container, replace(one, state="absent"))
    shop.converge(container, replace(two, state="absent"))
    # The files of a volume that was given away are still somebody's.
    assert len(id_ranges._given(shop.paths)) == (0 if mapped() else 1)
    assert not os.path.exists(os.path.join(shop.paths.data, "store", "shifted"))
    shop.converge(volume, volume.Spec("test_data", state="absent"))
    assert id_ranges._given(shop.paths) == []
    assert not os.path.exists(os.path.join(shop.paths.data, "store", "shifted"))
    if not mapped():
        assert os.listdir(os.path.join(shop.paths.data, "store", "tmp")) == []


def test_projects_have_ranges_apart(shop: Shop) -> None:
    started(shop, "a")
    shop.host = replace(shop.host, project="other")
    started(shop, "b")
    (_, one), (_, two) = id_ranges._given(shop.paths)
    assert abs(one - two) >= 65536


def test_ranges_of_others_are_left_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(shop.paths.container("x"))
    wanted = id_ranges.hold(shop.paths, "test", "x")
    shutil.rmtree(shop.paths.container("x"))
    id_ranges.tidy(shop.paths)
    files = {"_ACCOUNTS": f"u:x:{wanted + 5}:1::/:/x\n", "_GRANTS": f"u:{wanted + 65530}:70000\n"}
    for name, text in files.items():
        path = Path(shop.paths.data, name)
        path.write_text(text)
        monkeypatch.setattr(id_ranges, name, (str(path),))
    _, pid = started(shop, "a")
    assert first(shop) == wanted + 2 * 65536 + 65536
    spec = shop.spec("a", userns_mode="private")
    assert container.warnings(spec, shop.host) == []
    path.write_text(f"u:{first(shop) + 3}:1\n")
    (said,) = container.warnings(spec, shop.host)
    assert (
        f"{path} gives ids of the project test's containers to another: {first(shop) + 3}" in said
    )
    monkeypatch.setattr(id_ranges, "_ACCOUNTS", ())
    monkeypatch.setattr(id_ranges, "_GRANTS", ())
    assert (first(shop), 65536) in id_ranges.taken_on_host()
    assert pid


def test_copies_go_with_their_layer(shop: Shop) -> None:
    if_shifted = Path(shop.paths.data, "store", "shifted")
    started(shop, "a")
    if mapped():
        assert not if_shifted.exists()
        return
    from hostctl_host.store import store

    made = store.Store(shop.paths.data)
    with scratch(made) as doomed:
        shifted.collect(made, doomed)
        assert len(list(if_shifted.glob("*/l1"))) == 1
        os.rename(os.path.join(made.links_dir, "l1"), os.path.join(made.links_dir, "l2"))
        shifted.collect(made, doomed)
        assert not if_shifted.exists()


def test_a_copy_cut_short_is_made_again(shop: Shop) -> None:
    """A child is killed at every step of it; the last one completes."""
    image_folder(shop)
    from hostctl_host.store import store

    made = store.Store(shop.paths.data)
    final = Path(made.root, "shifted", "1879048192", "l1")
    for step in range(0, 400, 7):
        pid = os.fork()
        if pid == 0:
            count = 0

            def trace(frame: object, event: str, arg: object, last: int = step) -> object:
                nonlocal count
                count += event == "call"
                if count > last:
                    os.kill(os.getpid(), 9)
                return None

            sys.setprofile(trace)  # type: ignore[arg-type]
            shifted.ensure(made, 1879048192, ["l1"])
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            break
        if final.exists():
            assert look(final, 1879048192) == look(shop.layer)
    shifted.ensure(made, 1879048192, ["l1"])
    assert look(final, 1879048192) == look(shop.layer)
    sweep(made)
    assert os.listdir(os.path.join(made.root, "tmp")) == []
    shifted.remove(made, 1879048192)


def test_other_keys_beside_it(shop: Shop) -> None:
    ports = "net.ipv4.ip_unprivileged_port_start"
    _, pid = started(
        shop,
        "a",
        script="exec sleep 1000",
        init=True,
        read_only=True,
        cap_add=("ALL",),
        tmpfs=("/scratch",),
        sysctls={ports: "80"},
        oom_score_adj=100,
        ulimits={"nofile": container.Ulimit(100, 200)},
        mem_limit=64 << 20,
    )
    words = ["cat", f"/proc/sys/{ports.replace('.', '/')}"]
    assert client.run(shop.paths, "test-a-1", {"command": words}, 5) == (0, "80\n")
    words = ["cat", "/proc/sys/net/ipv4/ping_group_range"]
    assert client.run(shop.paths, "test-a-1", {"command": words}, 5) == (0, "0\t65535\n")
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "100\n"
    assert (
        "Max open files            100                  200"
        in Path(f"/proc/{pid}/limits").read_text()
    )
    assert "ro" in shop.mounts("test-a-1")["/"][5].split(",")
    for kind in ("net", "uts", "ipc", "pid", "mnt", "cgroup", "user"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    _, pid = started(shop, "b", network_mode="host", uts="host", ipc="none")
    for kind in ("net", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")


def test_a_run_that_is_killed_anywhere_is_completed_by_the_next(shop: Shop) -> None:
    image_folder(shop)
    shop.volume("data")
    shop.converge(container, shop.spec("x"))  # its zygote serves all
    mounts = (Mount("/srv", source="test_data"),)
    spec = shop.spec("a", userns_mode="private", volumes=mounts)
    for step in range(10, 3000, 170):
        pid = os.fork()
        if pid == 0:
            count = 0

            def trace(frame: object, event: str, arg: object, last: int = step) -> None:
                nonlocal count
                count += event == "call"
                if count > last:
                    os.kill(os.getpid(), 9)

            threading.setprofile(trace)  # type: ignore[arg-type]
            sys.setprofile(trace)  # type: ignore[arg-type]
            try:
                shop.converge(container, spec)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    shop.converge(container, spec)
    (given,) = id_ranges._given(shop.paths)
    base = 0 if mapped() else given[1]
    assert look(data(shop, "data"), base) == look(shop.layer / "srv")
    shop.converge(container, replace(spec, state="absent"))
    shop.converge(volume, volume.Spec("test_data", state="absent"))
    assert id_ranges._given(shop.paths) == []
    assert not os.path.exists(os.path.join(shop.paths.data, "store", "shifted"))


def test_a_volume_that_was_half_given_away_is_given_whole(shop: Shop) -> None:
    shop.volume("data")
    folder = data(shop, "data")
    for name in ("a", "b", "c"):
        (folder / name).write_text("")
    os.chmod(folder / "c", 0o4755)
    os.makedirs(shop.paths.container("test-a-1"))
    own = id_ranges.hold(shop.paths, "test", "test-a-1")
    os.chown(folder / "b", own + 5, own)
    os.chown(folder / "c", 7, 7)
    os.chmod(folder / "c", 0o4755)
    id_ranges.write_owners(str(folder), [0, own])
    started(shop, "a", volumes=(Mount("/d", source="test_data"),))
    base = 0 if mapped() else own
    found = [(name, uid - base, gid - base, mode) for name, uid, gid, mode in look(folder)]
    assert [one[:3] for one in found] == [(".", 0, 0), ("a", 0, 0), ("b", 5, 0), ("c", 7, 7)]
    assert found[3][3] == "0o104755"
    assert id_ranges.owners(str(folder)) == [base]


def test_what_a_killed_trial_left_does_not_spoil_the_next(shop: Shop, tmp_path: Path) -> None:
    links, place = str(shop.layer.parent), tmp_path / "place"
    before = idmap_probe.layers(links, str(place))
    assert not place.exists() or os.listdir(place) == []
    (place / "trial" / "rw" / "upper" / "made").mkdir(parents=True)
    idmap_probe._known.clear()
    assert idmap_probe.layers(links, str(place)) == before
    assert os.listdir(place) == []
