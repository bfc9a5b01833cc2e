"""Runs on the test machine: a playbook on lab hosts, and what can be seen there of containers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import Done, Hostctl
from tests.lab import Lab, LabHost

DATA = "/var/lib/hostctl/containers"
IMAGE = '    {0}: {{pull: "{{{{ registry }}}}/{0}:1", insecure: true}}\n'
LOOP = "while :; do sleep 0.05; done"
"""What a container does that has nothing to do; the shell acts on a signal soon."""
POLITE = f"trap 'exit 0' TERM; {LOOP}"


@dataclass
class Site:
    """One host, one inventory, playbooks in a folder."""

    lab: Lab
    host: LabHost
    folder: Path

    def __post_init__(self) -> None:
        self.hostctl = Hostctl(self.lab)

    def write(
        self,
        containers: str,
        project: str = "shop",
        more: str = "",
        images: tuple[str, ...] = ("shell",),
    ) -> Path:
        path = self.folder / f"{project}.yml"
        path.write_text(
            f"- hosts: {self.host.name}\n  project: {project}\n  become: true\n"
            "  images:\n"
            + "".join(IMAGE.format(name) for name in images)
            + f"{more}  containers:\n{containers}"
        )
        return path

    def __call__(self, verb: str, *words: Any, code: int = 0) -> Done:
        sure = ("--yes",) if verb == "destroy" else ()
        reports = ("--json",) if verb in ("plan", "apply", "destroy") else ()
        done = self.hostctl(verb, "--limit", self.host.name, *reports, *sure, *map(str, words))
        told = done.json["hosts"][self.host.name]["failures"] if done.code == 2 and reports else ""
        assert done.code == code, f"{told}\n{done.out[:3000]}{done.err}"
        return done

    def ps(self) -> dict[str, str]:
        """Name -> state of every container."""
        done = self("ps", "--all", "--json")
        return {row["name"]: row["state"] for row in done.json["hosts"][self.host.name]}

    def state(self, name: str) -> dict[str, Any]:
        """What outlives a reboot: how the container started or ended last."""
        found: dict[str, Any] = json.loads(self.host.sh(f"cat {DATA}/{name}/state.json"))
        return found

    def pid(self, name: str) -> int:
        text = self.host.sh(f"cat /run/hostctl/containers/{name}/state.json")
        return int(json.loads(text)["pid"])

    def cgroups(self, pid: int | str) -> set[str]:
        """The paths that a process has, one for all hierarchies where hostctl put it there."""
        lines = self.host.sh(f"cat /proc/{pid}/cgroup").splitlines()
        return {line.split(":", 2)[2] for line in lines} - {"/"}

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.host.run(["systemctl", *words], check=check).stdout.strip()

    def nothing_left(self) -> None:
        found = "find /sys/fs/cgroup -name 'hostctl*'; pgrep -a hostctl || true"
        assert self.host.sh(found) == ""

    def nothing_left_running(self) -> None:
        """No process of hostctl or of a container, and none of its cgroups but the service's own."""
        found = "find /sys/fs/cgroup -type d -path '*hostctl.service/*'; pgrep -a hostctl || true"
        assert self.host.sh(found) == ""

    def clear(self, *projects: str) -> None:
        for project in projects:
            path = self.folder / f"{project}.yml"
            if path.exists():
                self("destroy", "--volumes", path)


@pytest.fixture(scope="module")
def machines() -> Iterator[Lab]:
    hosts = {
        "sd": {"init": "systemd"},
        "old": {"init": "systemd", "suite": "bullseye"},
        "v2": {"init": "systemd", "unified": True},
        "plain": {},
    }
    with Lab(hosts) as made:
        yield made


@pytest.fixture(params=["sd", "old"])
def site(request: pytest.FixtureRequest, machines: Lab, tmp_path: Path) -> Iterator[Site]:
    """A host with systemd: of today, and with Python 3.9."""
    made = Site(machines, machines[request.param], tmp_path)
    yield made
    made.clear("shop", "other")


@pytest.fixture
def v2(machines: Lab, tmp_path: Path) -> Iterator[Site]:
    """A host with systemd and version 2 of cgroups alone."""
    made = Site(machines, machines["v2"], tmp_path)
    yield made
    made.clear("shop")


@pytest.fixture
def plain(machines: Lab, tmp_path: Path) -> Iterator[Site]:
    """A host whose init can be told nothing."""
    made = Site(machines, machines["plain"], tmp_path)
    yield made
    made.clear("shop")
