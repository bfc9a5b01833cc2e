"""Runs on the test machine: a declared container with a terminal on lab hosts, and who attaches to it over SSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command import Hostctl
from tests.lab import Lab
from tests.monitor.test_console import Console, size
from tests.runtime.workshop import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLAYBOOK = """\
- hosts: all
  become: true
  project: shop
  images:
    shell: {pull: "{{ registry }}/shell:1", insecure: true}
  containers:
    box:
      image: shell
      command: [sh, -c, "while printf '> ' && read line; do eval $line; done; exit 9"]
      tty: true
      stdin_open: true
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[Lab]:
    with Lab({"web1": {}, "old": {"suite": "bullseye"}}) as made:
        yield made


def test_it_is_applied_attached_to_left_and_replaced(machines: Lab, tmp_path: Path) -> None:
    hostctl = Hostctl(machines)
    path = tmp_path / "shop.yml"
    path.write_text(PLAYBOOK)
    try:
        done = hostctl("apply", str(path))
        assert done.code == 0, done.out + done.err
        assert hostctl("plan", str(path)).code == 0
        assert "cannot attach to 2 hosts at once" in hostctl("attach", "shop-box-1").err
        for host in ("web1", "old"):
            here = ("--limit", host)
            words = ("attach", *here, "shop-box-1")
            console = Console(machines.inventory, *words, environment=machines.environment())
            until(console.is_raw, 30)
            console.type(b"tty; stty size\r")
            console.expect(b"/dev/pts/0\r\n30 90\r\n> ")
            size(console.master, 40, 100)
            console.type(b"sleep 1; stty size\r")
            console.expect(b"40 100\r\n> ")
            console.type(b"\x10\x11")
            assert console.end() == 0
            again = Console(machines.inventory, *words, environment=machines.environment())
            until(again.is_raw, 30)
            again.type(b"echo still $((40 + 2))\r")
            again.expect(b"still 42\r\n> ")
            again.type(b"\x04")
            assert again.end() == 9
            assert "still 42\n" in hostctl("logs", *here, "shop-box-1").out
        # It has ended, and no policy wants it back: apply does.
        assert hostctl("plan", str(path)).code == 2
        assert hostctl("apply", str(path)).code == 0
        path.write_text(PLAYBOOK.replace("tty: true", "tty: false"))
        assert hostctl("apply", str(path)).code == 0
        assert hostctl("plan", str(path)).code == 0
    finally:
        hostctl("destroy", "--yes", str(path))
