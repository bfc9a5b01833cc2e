"""Ships between real hosts over SSH: what travels, a host that is gone, one that hangs half-way, and going on."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostctl_host.store.store import Store

from tests.e2e.command import Hostctl
from tests.lab import Lab
from tests.lab.network import bridge_name

pytestmark = [pytest.mark.root, pytest.mark.lab]
BIG = 40_000_000


@pytest.fixture(scope="module")
def own() -> Iterator[Lab]:
    with Lab({"w1": {}, "w2": {}, "w3": {}}, with_images=False) as made:
        yield made


@pytest.fixture(scope="module")
def hostctl(own: Lab) -> Hostctl:
    return Hostctl(own)


def store(lab: Lab, host: str) -> Store:
    return Store(str(lab[host].data))


def sent(lab: Lab, host: str) -> int:
    """Bytes that the host has sent, as its end of the cable counts them."""
    link = f"{bridge_name(lab.slot)}-{lab[host].number}"
    return int(Path(f"/sys/class/net/{link}/statistics/rx_bytes").read_text())


def part(lab: Lab, host: str) -> int:
    """Bytes of blobs that the host has in part."""
    folder = lab[host].data / "store/parts"
    return sum(one.stat().st_size for one in folder.iterdir()) if folder.is_dir() else 0


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def site(folder: Path, name: str, size: int = 1000, hosts: str = "all") -> str:
    """A playbook whose image has one layer of that many bytes that nothing compresses."""
    context = folder / "web"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY blob /blob\n")
    (context / "blob").write_bytes(os.urandom(size))
    path = folder / "site.yml"
    path.write_text(
        f"- hosts: {hosts}\n  project: {name}\n  images: {{shop/{name}:1: {{build: ./web}}}}\n"
    )
    return str(path)


def ids(lab: Lab, image: str, *hosts: str) -> list[str | None]:
    return [store(lab, name).resolve(image) for name in hosts]


def test_a_blob_leaves_its_host_once(own: Lab, hostctl: Hostctl, tmp_path: Path) -> None:
    playbook = site(tmp_path, "once", 8_000_000)
    before = {name: sent(own, name) for name in own.hosts}
    done = hostctl("apply", playbook)
    assert done.code == 0, done.out + done.err
    assert len(set(ids(own, "shop/once:1", *own.hosts))) == 1
    travelled = {name: sent(own, name) - before[name] for name in own.hosts}
    assert 8_000_000 < travelled["w1"] < 11_000_000
    assert travelled["w2"] < 1_000_000 and travelled["w3"] < 1_000_000
    assert hostctl("plan", playbook).code == 0
    before = {name: sent(own, name) for name in own.hosts}
    assert "changed=0" in hostctl("apply", playbook).out
    assert all(sent(own, name) - before[name] < 1_000_000 for name in own.hosts)


def test_a_host_that_is_gone_stops_no_other(own: Lab, hostctl: Hostctl, tmp_path: Path) -> None:
    """Neither as the one that would build, nor as one that would get it; it is served when it is back."""
    playbook = site(tmp_path, "gone", 100_000)
    own["w1"].stop()
    own["w3"].freeze()
    try:
        done = hostctl("apply", playbook, "--timeout", "3")
    finally:
        own["w3"].thaw()
        own["w1"].start()
    assert done.code == 4, done.out + done.err
    assert ids(own, "shop/gone:1", "w1", "w3") == [None, None]
    made = ids(own, "shop/gone:1", "w2")
    assert made != [None]
    done = hostctl("apply", playbook)
    assert done.code == 0, done.out + done.err
    assert len(set(ids(own, "shop/gone:1", *own.hosts))) == 1
    assert hostctl("plan", playbook).code == 0


def test_a_broken_ship_goes_on_where_it_stopped(own: Lab, hostctl: Hostctl, tmp_path: Path) -> None:
    """One host hangs while it is being sent a blob: the other gets it; what came is not sent again."""
    playbook = site(tmp_path, "broken", BIG)
    assert hostctl("apply", playbook, "-l", "w1").code == 0
    running = hostctl.start("apply", playbook)
    try:
        wait(lambda: part(own, "w3") > 1_000_000)
        own["w3"].freeze()
        wait(lambda: store(own, "w2").resolve("shop/broken:1") is not None)
        assert store(own, "w3").resolve("shop/broken:1") is None
        running.kill()
        running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
        own["w3"].thaw()
    # What was on its way when the controller died still comes to its end.
    wait(lambda: not agents(own, "w3"))
    kept = part(own, "w3")
    assert 1_000_000 < kept < BIG
    before = sent(own, "w1")
    done = hostctl("apply", playbook)
    assert done.code == 0, done.out + done.err
    assert len(set(ids(own, "shop/broken:1", *own.hosts))) == 1
    assert sent(own, "w1") - before < BIG - kept + 1_000_000
    assert part(own, "w3") == 0
    assert hostctl("plan", playbook).code == 0


def agents(lab: Lab, host: str) -> list[str]:
    """Processes of agents that serve a run there."""
    return lab[host].sh("pgrep -f '/agents/.*[s]tart.py' || true").split()


def test_push_to_hosts(own: Lab, hostctl: Hostctl, tmp_path: Path) -> None:
    playbook = site(tmp_path, "pushed", 3_000_000, hosts="w1")
    assert hostctl("apply", playbook).code == 0
    done = hostctl("push", "shop/pushed:1", "--to", "w2:w3", "-l", "w1", "--json")
    assert done.code == 0, done.err
    rows = done.json["hosts"]
    assert {name: (row["sent"] > 3_000_000, row["present"]) for name, [row] in rows.items()} == {
        "w2": (True, 0),
        "w3": (True, 0),
    }
    assert len(set(ids(own, "shop/pushed:1", *own.hosts))) == 1
    again = hostctl("push", "shop/pushed:1", "--to", "all", "-l", "w1")
    assert again.out.count(" 0.0 MB sent, 3.0 MB already there") == 2
    missing = hostctl("push", "shop/none:1", "--to", "w2", "-l", "w1")
    assert missing.code == 2 and "cannot get shop/none:1 from w1" in missing.err
    assert hostctl("push", "shop/none:1", "--to", "w1", "-l", "w1").code == 1
    own["w3"].stop()
    try:
        done = hostctl("push", "shop/pushed:1", "--to", "w2:w3", "-l", "w1", "--timeout", "3")
    finally:
        own["w3"].start()
    assert done.code == 4 and "shop/pushed:1" in done.out


def test_damage_is_found_and_mended(own: Lab, hostctl: Hostctl, tmp_path: Path) -> None:
    """A part that is not what it seems is sent anew; a source that is damaged is not believed."""
    playbook = site(tmp_path, "damaged", 2_000_000, hosts="w1")
    assert hostctl("apply", playbook).code == 0
    source = store(own, "w1")
    image = source.image("shop/damaged:1")
    assert image is not None
    [layer] = source.manifest(image)["layers"]
    parts = own["w2"].data / "store/parts"
    parts.mkdir(exist_ok=True)
    (parts / layer["digest"].partition(":")[2]).write_bytes(b"x" * 1_000_000)
    done = hostctl("push", "shop/damaged:1", "--to", "w2", "-l", "w1")
    assert done.code == 0, done.err
    assert ids(own, "shop/damaged:1", "w2") == ids(own, "shop/damaged:1", "w1")
    blob = Path(source.blob_path(layer["digest"]))
    with blob.open("r+b") as file:
        file.seek(1_500_000)
        file.write(b"damage")
    done = hostctl("push", "shop/damaged:1", "--to", "w3", "-l", "w1")
    assert done.code == 2 and "has another digest" in done.err
    assert ids(own, "shop/damaged:1", "w3") == [None]
    assert part(own, "w3") == 0
    subprocess.run(["rm", "-f", str(blob)], check=True)
    done = hostctl("push", "shop/damaged:1", "--to", "w3", "-l", "w1")
    assert done.code == 2 and "is missing from the store" in done.err
