"""Runs on the test machine: a data folder on an overlay, where no container can have its root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command import Hostctl
from tests.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]


def test_plan_says_that_no_container_can_run_there(lab: Lab, tmp_path: Path) -> None:
    """The lab's hosts have their root on an overlay, and /var/lib/hostctl on a real file system."""
    inventory, book = tmp_path / "inventory.yml", tmp_path / "site.yml"
    inventory.write_text(lab.inventory_yaml(hostctl_data_dir="/srv/h", hostctl_run_dir="/run/h"))
    play = {
        "hosts": "web1",
        "project": "layered",
        "images": {"shell": {"pull": f"{lab.registry.url}/shell:1", "insecure": True}},
        "containers": {"one": {"image": "shell", "command": "sleep 1000"}},
    }
    book.write_text(json.dumps([play]))
    hostctl = Hostctl(lab, inventory)
    try:
        for verb in ("plan", "apply"):
            done = hostctl(verb, str(book))
            assert done.code == {"plan": 1, "apply": 2}[verb], done.out + done.err
            assert "cannot keep images and containers in /srv/h: it lies on overlay" in done.out, (
                done.out
            )
            assert "hint: set hostctl_data_dir to a folder on a disk's own file system" in done.out
        assert hostctl("destroy", "--yes", str(book)).code == 0
        files = [{"directory": {"path": "/srv/h", "mode": "0700"}}]
        book.write_text(json.dumps([{"hosts": "web1", "project": "layered", "tasks": files}]))
        done = hostctl("plan", str(book))
        assert "cannot" not in done.out, done.out
    finally:
        lab["web1"].sh("rm -rf /srv/h /run/h")
