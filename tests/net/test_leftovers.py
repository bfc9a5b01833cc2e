"""What kills and hands in hostctl's folders have left goes with the next run; what is not surely ours stays."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from hostctl_host.agent.leftovers import collect
from hostctl_host.agent.paths import Paths

from .machine import Machine

pytestmark = pytest.mark.root

COLLECT = "from hostctl_host.agent.leftovers import collect; collect(paths)"


def test_bridges_without_a_record_go(machine: Machine) -> None:
    for name in ("shop_front", "shop_back"):
        machine.apply(name=name)
    kept, gone = (
        machine.get(f"addresses.bridge_name(paths, '{name}')")
        for name in ("shop_front", "shop_back")
    )
    # Of another data folder, and somebody else's.
    for name in ("hc-0badcafe", "hc-1badcafe"):
        machine.ip("link", "add", name, "type", "bridge")
    machine.ip("link", "set", "hc-0badcafe", "alias", "hostctl network shop_front")
    machine.call(COLLECT)
    assert gone in machine.ip("-o", "link")
    shutil.rmtree(Path(machine.get("paths.data"), "networks", "shop_back"))
    machine.call(COLLECT)
    links = machine.ip("-o", "link")
    assert gone not in links
    for name in (kept, "hc-0badcafe", "hc-1badcafe"):
        assert name in links


def _listen(path: Path, kind: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_names_of_the_dead_go_from_the_run_folder(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path / "data"), str(tmp_path / "run"))
    run = tmp_path / "run"
    run.mkdir()
    collect(paths)
    alive = _listen(run / "zygote-aaaaaaaaaaaa.sock", socket.SOCK_STREAM)
    for name, kind in (
        ("dns.sock", socket.SOCK_SEQPACKET),
        ("zygote-bbbbbbbbbbbb.sock", socket.SOCK_STREAM),
    ):
        _listen(run / name, kind).close()
    for name in ("dns.log", "other.sock"):
        (run / name).touch()
    (tmp_path / "data" / "containers" / "a").mkdir(parents=True)
    before = {path.name for path in run.iterdir()}
    collect(paths)  # its monitor may need them
    assert {path.name for path in run.iterdir()} == before
    (tmp_path / "data" / "containers" / "a").rmdir()
    collect(paths)
    left = {path.name for path in run.iterdir() if not path.name.endswith(".lock")}
    assert left == {"zygote-aaaaaaaaaaaa.sock", "other.sock"}
    alive.close()
