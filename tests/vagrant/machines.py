"""Runs on the test machine: the virtual machines of one space: made by Vagrant, known from `vagrant ssh-config`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.lab import images
from tests.lab.lab import dump_yaml, environment
from tests.lab.paths import REGISTRY_PORT
from tests.lab.shell import LabError

from . import box
from .machine import PATIENCE, Machine
from .space import Space

NAME = os.environ.get("HOSTCTL_VM_NAME", "vm")
SUITE = os.environ.get("HOSTCTL_VM_SUITE", "bookworm")
NAMES = os.environ.get("HOSTCTL_VM_MACHINES", "vm1 vm2").split()
GATEWAY = "192.168.121.1"
"""This machine on the network that vagrant-libvirt makes."""


class Machines:
    """The machines of a space that is up; `machines["vm1"]` is one of them.

    It has what `tests.e2e.command.Hostctl` asks of a lab: `inventory` and `environment()`.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.folder = space.folder
        self.registry = SimpleNamespace(url=f"{GATEWAY}:{REGISTRY_PORT}")
        self.hosts = {
            name: Machine(name, address, self.folder)
            for name, address in _addresses(self.folder / "ssh_config").items()
        }

    def __getitem__(self, name: str) -> Machine:
        return self.hosts[name]

    @property
    def inventory(self) -> Path:
        """An inventory that says names only; the rest is in Vagrant's SSH configuration."""
        return self.folder / "inventory.yml"

    def environment(self) -> dict[str, str]:
        """This process's environment, with a home folder of the space's and no SSH agent."""
        return environment(self.folder / "home")


def up(space: Space, *, kept: bool) -> None:
    """Make the box and the images where they are missing, then the space and its machines.

    Raises:
        LabError: it did not work; the message has what Vagrant and the consoles said.
    """
    environment = vagrant_environment(space)
    content = images.registry_content()
    space.begin(content, kept=kept)
    for name in NAMES:
        _up(space, name, environment)
    told = space.run(["vagrant", "ssh-config"], timeout=300, **environment)
    if told.returncode:
        raise LabError(f"vagrant ssh-config failed:\n{told.stdout}")
    (space.folder / "ssh_config").write_text(told.stdout)
    (space.folder / "home" / ".ssh" / "config").write_text(told.stdout)
    hosts: dict[str, Any] = {name: {} for name in NAMES}
    variables = {"registry": f"{GATEWAY}:{REGISTRY_PORT}"}
    (space.folder / "inventory.yml").write_text(
        dump_yaml({"all": {"vars": variables, "hosts": hosts}})
    )


def vagrant_environment(space: Space) -> dict[str, str]:
    """What Vagrant and its Vagrantfile are told; what the user has set is left as it is."""
    told = {
        "HOME": str(space.folder / "home"),
        "HOSTCTL_VM_CONSOLE": str(space.folder / "console"),
        "HOSTCTL_VM_MACHINES": " ".join(NAMES),
        "LIBVIRT_DEFAULT_URI": "qemu:///system",
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_CWD": str(Path(__file__).parent),
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "VAGRANT_DOTFILE_PATH": str(space.folder / "dotfile"),
        "VAGRANT_HOME": str(space.folder / "home" / ".vagrant.d"),
        "VAGRANT_NO_COLOR": "1",
    }
    if "HOSTCTL_VM_BOX" not in os.environ:
        made = box.make(SUITE)
        told |= {
            "HOSTCTL_VM_BOX": made.name,
            "HOSTCTL_VM_BOX_URL": f"file://{made.file}",
            "HOSTCTL_VM_DRIVER": os.environ.get("HOSTCTL_VM_DRIVER", "qemu"),
            "HOSTCTL_VM_KERNEL": str(made.kernel),
            "HOSTCTL_VM_INITRD": str(made.initrd),
        }
    return told


def _up(space: Space, name: str, environment: dict[str, str]) -> None:
    """Boot one machine; tried again, because libvirt, DHCP and a slow boot may fail Vagrant once."""
    said = ""
    for _ in range(2):
        begun = time.monotonic()
        try:
            done = space.run(
                ["vagrant", "up", "--no-color", name], timeout=2 * PATIENCE, **environment
            )
            said = done.stdout
            if done.returncode == 0:
                print(f"{name} is up after {time.monotonic() - begun:.0f} s", file=sys.stderr)
                return
        except subprocess.TimeoutExpired as error:
            said = f"no end after {error.timeout:.0f} s\n{error.stdout or ''}"
        print(f"{name} did not come up:\n{said}", file=sys.stderr)
        print(f"its console:\n{_console(space, name)}", file=sys.stderr)
        space.run(["vagrant", "destroy", "--force", name], timeout=PATIENCE, **environment)
    raise LabError(f"cannot bring {name} up:\n{said}")


def _console(space: Space, name: str) -> str:
    try:
        return (space.folder / "console" / f"{name}.log").read_text(errors="replace")[-8000:]
    except OSError:
        return "(it has said nothing)"


def _addresses(config: Path) -> dict[str, str]:
    """Host -> HostName of an OpenSSH configuration as Vagrant writes it."""
    found: dict[str, str] = {}
    host = ""
    for line in config.read_text().splitlines():
        key, _, value = line.strip().partition(" ")
        if key == "Host":
            host = value
        elif key == "HostName":
            found[host] = value
    return found
