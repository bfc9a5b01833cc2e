"""Runs on the test machine, inside the space: the machines that are up, and playbooks on one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import leaks
from tests.e2e.command import Done, Hostctl

from .machine import Machine
from .machines import NAME, Machines
from .space import Space

PATIENCE = 1500
"""Seconds for one scenario: emulated machines on half as fast a computer, rebooted twice."""

IMAGES = ("shell", "nginx", "redis")
POLITE = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
"""What a container does that has nothing to do; the shell acts on a signal soon."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Emulated machines need more patience than other tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(PATIENCE))


class Patient(Hostctl):
    """The command, with time for logins to machines that are emulated."""

    def argv(self, *words: str) -> list[str]:
        return super().argv(words[0], "--timeout", "90", *words[1:])


@dataclass
class Site:
    """Playbooks in a folder, and the machine that they are for.

    Attributes:
        machines: all that are up.
        vm: the machine of this scenario, the first of them.
        folder: where the playbooks are.
    """

    machines: Machines
    vm: Machine
    folder: Path
    _written: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hostctl = Patient(self.machines)  # type: ignore[arg-type]

    @property
    def others(self) -> list[Machine]:
        """The machines but this one."""
        return [machine for machine in self.machines.hosts.values() if machine is not self.vm]

    def write(self, text: str, project: str = "shop", *, hosts: str = "") -> Path:
        """A playbook of these sections (indented by two), with the lab's images that it names."""
        used = [name for name in IMAGES if f"image: {name}" in text]
        images = "".join(
            f'    {name}: {{pull: "{{{{ registry }}}}/{name}:1", insecure: true}}\n'
            for name in used
        )
        head = f"- hosts: {hosts or self.vm.name}\n  project: {project}\n  become: true\n"
        path = self.folder / f"{project}.yml"
        path.write_text(f"{head}{'  images:' if used else ''}\n{images}{text}")
        self._written[project] = path
        return path

    def __call__(self, verb: str, *words: Any, code: int = 0, timeout: float = 600) -> Done:
        """Run a verb on the machine; plan, apply and destroy report as JSON."""
        sure = ("--yes",) if verb == "destroy" else ()
        reports = ("--json",) if verb in ("plan", "apply", "destroy") else ()
        argv = (verb, "--limit", self.vm.name, *reports, *sure, *map(str, words))
        done = self.hostctl(*argv, timeout=timeout)
        told: Any = ""
        if done.code != code and reports and done.out:
            told = {name: host["failures"] for name, host in done.json["hosts"].items()}
        assert done.code == code, f"exit {done.code}: {told}\n{done.out[:3000]}{done.err}"
        return done

    def changed(self, verb: str, *words: Any, code: int = 0) -> list[str]:
        """`ACTION RESOURCE` of what a plan or an apply changes."""
        return self(verb, *words, code=code).changed()[self.vm.name]

    def ps(self) -> dict[str, str]:
        """Name -> state of every container."""
        done = self("ps", "--all", "--json")
        return {row["name"]: row["state"] for row in done.json["hosts"][self.vm.name]}

    def wait_for(self, container: str, state: str, timeout: float = 300) -> None:
        """Until `ps` says so of a container."""
        deadline = time.monotonic() + timeout
        while self.ps().get(container) != state:
            assert time.monotonic() < deadline, f"{container} is not {state}: {self.ps()}"
            time.sleep(1)

    def adopt(self, project: str, path: Path) -> None:
        """A playbook that somebody else wrote is destroyed with the others."""
        self._written[project] = path

    def clear(self) -> None:
        """Destroy what is left of the playbooks."""
        for path in self._written.values():
            self("destroy", "--volumes", path)


@pytest.fixture(scope="session", autouse=True)
def nothing_left() -> Iterator[None]:
    """As for other tests, but for links of a QEMU that was started again: they go with the space."""
    before = leaks.snapshot()
    yield
    before["links"] |= {link for link in leaks.links() if link.startswith("vnet")}
    found = leaks.left(before, shared=bool(os.environ.get("HOSTCTL_SHARED_MACHINE")))
    assert not found, f"tests left behind: {found}"


@pytest.fixture(scope="session")
def machines(nothing_left: None) -> Iterator[Machines]:
    """The machines that `python -m tests.vagrant` has booted."""
    space = Space(NAME)
    if not (space.folder / "inventory.yml").exists():
        pytest.fail("no virtual machines are up: run `make test-vm`, or scripts/vm up", False)
    made = Machines(space)
    yield made
    for machine in made.hosts.values():
        machine.disconnect()


@pytest.fixture
def site(machines: Machines, tmp_path: Path) -> Iterator[Site]:
    """The first machine, for one scenario; its playbooks are destroyed afterwards."""
    made = Site(machines, next(iter(machines.hosts.values())), tmp_path)
    made.vm.ready()
    yield made
    made.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """A scenario that failed shows the end of its machine's console."""
    report = yield
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and isinstance(site, Site):
        report.sections.append((f"console of {site.vm.name}", site.vm.console[-3000:]))
    return report
