"""Runs on the test machine: logs on lab hosts: in the journal of a real systemd, and how much there may be of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import Hostctl
from tests.lab import Lab
from tests.runtime.workshop import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLAYBOOK = """\
- hosts: all
  become: true
  project: shop
  images:
    shell: {{pull: "{{{{ registry }}}}/shell:1", insecure: true}}
  containers:
    web:
      image: shell
      command: [sh, -c, "{script}"]
      logging: {{driver: journald, options: {{tag: the-shop}}}}
"""
TALK = "echo out; echo err >&2; printf part; trap 'exit 0' TERM; while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def machines() -> Iterator[Lab]:
    with Lab({"sd": {"init": "systemd"}, "plain": {}}) as made:
        yield made


def write(folder: Path, script: str) -> Path:
    path = folder / "shop.yml"
    path.write_text(PLAYBOOK.format(script=script))
    return path


def entries(machines: Lab) -> list[dict[str, Any]]:
    told = machines["sd"].sh("journalctl -o json --all CONTAINER_NAME=shop-web-1")
    return [json.loads(line) for line in told.splitlines()]


def test_journalctl_and_hostctl_logs_show_it(machines: Lab, tmp_path: Path) -> None:
    hostctl = Hostctl(machines)
    path = write(tmp_path, TALK)
    here = ("--limit", "sd")
    try:
        done = hostctl("apply", path, *here)
        assert done.code == 0, done.out + done.err
        assert hostctl("plan", path, *here).code == 0  # nothing more to do
        until(lambda: len(entries(machines)) >= 2)
        found = {entry["MESSAGE"]: entry for entry in entries(machines)}
        assert found["out"]["PRIORITY"] == "6" and found["err"]["PRIORITY"] == "3"
        for entry in found.values():
            assert entry["CONTAINER_TAG"] == entry["SYSLOG_IDENTIFIER"] == "the-shop"
            assert entry["IMAGE_NAME"].endswith("shell")
            assert entry["CONTAINER_ID_FULL"].startswith(entry["CONTAINER_ID"])
        by_tag = machines["sd"].sh("journalctl -t the-shop -o cat").splitlines()
        assert sorted(by_tag) == ["err", "out"]
        assert hostctl("logs", "shop-web-1", *here).out in ("out\nerr\n", "err\nout\n")
        assert hostctl("logs", "--tail", "1", "shop-web-1", *here).out in ("out\n", "err\n")
        hostctl("stop", "shop-web-1", *here)
        followed = hostctl("logs", "-f", "-t", "shop-web-1", *here).out.splitlines()
        assert sorted(line.split(" ", 1)[1] for line in followed) == ["err", "out", "part"]
        assert all(line.split(" ")[0].endswith("Z") for line in followed)
    finally:
        hostctl("destroy", "--yes", path, *here)


def test_the_last_lines_of_one_that_fails_are_shown(machines: Lab, tmp_path: Path) -> None:
    hostctl = Hostctl(machines)
    path = write(tmp_path, "echo because; exit 3")
    try:
        done = hostctl("apply", path, "--limit", "sd")
        assert done.code == 2
        assert "exit code 3" in done.out + done.err
        assert "| because" in done.out + done.err
    finally:
        hostctl("destroy", "--yes", path, "--limit", "sd")


def test_the_inventory_says_how_much_there_may_be(machines: Lab, tmp_path: Path) -> None:
    hostctl = Hostctl(machines)
    path = tmp_path / "empty.yml"
    path.write_text("- hosts: plain\n  become: true\n  tasks: []\n")
    said = "cat /var/lib/hostctl/log-limit || echo none"
    for words, found in (
        ((), "none\n"),
        (("-e", "hostctl_log_limit=2g"), str(2 << 30)),
        (("-e", "hostctl_log_limit=-1"), "-1"),
        ((), "none\n"),
    ):
        assert hostctl("apply", path, *words).code == 0
        assert machines["plain"].sh(said) == found
        assert hostctl("plan", path, "-e", "hostctl_log_limit=7m").code == 0
        assert machines["plain"].sh(said) == found


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_a_host_without_a_journal_is_told_before_anything_is_made(
    machines: Lab, tmp_path: Path, verb: str
) -> None:
    done = Hostctl(machines)(verb, write(tmp_path, TALK), "--limit", "plain")
    assert done.code in (1, 2)
    said = done.out + done.err
    assert "cannot log shop-web-1 to the journal: the host has no journald" in said
    assert "driver: json-file" in said
