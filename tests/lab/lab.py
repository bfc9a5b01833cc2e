"""Runs on the test machine: a lab is N hosts, a bridge, a registry and a mirror."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import images, keys, network, services, slots
from .host import HostOptions, LabHost
from .paths import REGISTRY_PORT, WORK
from .shell import LabError


def environment(home: Path) -> dict[str, str]:
    """This process's environment, with that home folder and no SSH agent."""
    hidden = ("SSH_AUTH_SOCK", "HOSTCTL_INVENTORY")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "HOME": str(home)}


class Lab:
    """Hosts to test on, for as long as a `with` block runs.

    A `kept` lab outlives the process that made it (the command line's labs are).
    """

    def __init__(
        self,
        hosts: Mapping[str, Mapping[str, Any]],
        *,
        name: str = "",
        kept: bool = False,
        with_images: bool = True,
    ) -> None:
        self.name = name or f"lab-{os.getpid()}"
        self.kept = kept
        self.with_images = with_images
        self._options = {host: HostOptions(**options) for host, options in hosts.items()}
        self.hosts: dict[str, LabHost] = {}
        self.slot = -1

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *failure: object) -> None:
        self.down()

    def __getitem__(self, host: str) -> LabHost:
        return self.hosts[host]

    def up(self) -> None:
        """Bring everything up, hosts side by side; what was begun is removed when that fails."""
        if os.geteuid() != 0:
            raise LabError("the lab makes namespaces, mounts and links: run it as root")
        for options in self._options.values():
            _ = options.root  # made here, once, before they start side by side
        content = images.registry_content() if self.with_images else None
        self.slot = slots.claim(self.name, kept=self.kept)
        try:
            self._up(content)
        except BaseException:
            self.down()
            raise

    def _up(self, content: Path | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        network.make_bridge(self.slot)
        for number, (name, options) in enumerate(self._options.items(), start=2):
            self.hosts[name] = LabHost(name, self.slot, number, options)
        names = {host.name: host.address for host in self.hosts.values()}
        with ThreadPoolExecutor(max(len(self.hosts), 1)) as pool:
            launched = [pool.submit(host.launch, names) for host in self.hosts.values()]
            self.registry = services.start_registry(self.slot, content)
            services.start_mirror(self.slot)
            for launch in launched:
                launch.result()
        self._write_files()
        for host in self.hosts.values():
            host.ready()
        services.wait_for(self.address, REGISTRY_PORT)
        services.wait_for(self.address, 80)

    def down(self) -> None:
        """Remove everything."""
        if self.slot >= 0:
            for host in self.hosts.values():
                host.stop()
            slots.remove(self.slot)
            self.slot = -1

    @property
    def address(self) -> str:
        """This machine's address on the lab's bridge."""
        return network.address(self.slot, 1)

    @property
    def folder(self) -> Path:
        """The lab's folder on this machine."""
        return WORK / str(self.slot)

    @property
    def ssh_key(self) -> Path:
        """The private key that opens every host."""
        return keys.client_key()

    @property
    def known_hosts(self) -> Path:
        """Every host's key, as OpenSSH keeps them."""
        return self.folder / "known_hosts"

    @property
    def home(self) -> Path:
        """A home folder whose `.ssh/config` knows the hosts by name and address."""
        return self.folder / "home"

    @property
    def inventory(self) -> Path:
        """The inventory as a file."""
        return self.folder / "inventory.yml"

    def environment(self) -> dict[str, str]:
        """This process's environment, with the lab's home folder and no SSH agent."""
        return environment(self.home)

    def inventory_yaml(self, **variables: Any) -> str:
        """An inventory of all hosts, in their groups, with these variables for all."""
        groups: dict[str, Any] = {}
        for host in self.hosts.values():
            for group in host.options.groups:
                groups.setdefault(group, {"hosts": {}})["hosts"][host.name] = {}
        common = {
            "ansible_ssh_private_key_file": str(self.ssh_key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.known_hosts}",
            "registry": self.registry.url,
            **variables,
        }
        hosts = {
            host.name: {"ansible_host": host.address, "ansible_user": host.options.user}
            for host in self.hosts.values()
        }
        return dump_yaml({"all": {"vars": common, "hosts": hosts, "children": groups}})

    def _write_files(self) -> None:
        lines = [
            f"{host.name},{host.address} {keys.public(keys.host_key(host.name))}\n"
            for host in self.hosts.values()
        ]
        self.known_hosts.write_text("".join(lines))
        self.inventory.write_text(self.inventory_yaml())
        addresses = [f"{host.address}\n" for host in self.hosts.values()]
        (self.folder / "addresses").write_text("".join(addresses))
        config = self.home / ".ssh" / "config"
        config.parent.mkdir(mode=0o700, parents=True)
        config.write_text(
            "".join(f"Host {h.name}\n  HostName {h.address}\n" for h in self.hosts.values())
            + f"Host *\n  User root\n  IdentityFile {self.ssh_key}\n"
            f"  UserKnownHostsFile {self.known_hosts}\n"
        )


def dump_yaml(value: Any, indent: int = 0) -> str:
    """Mappings in block style, leaves as JSON (which is YAML): the lab needs no YAML library."""
    text = ""
    for key, item in value.items():
        space = " " * indent
        if isinstance(item, dict) and item:
            text += f"{space}{key}:\n{dump_yaml(item, indent + 2)}"
        else:
            text += f"{space}{key}: {json.dumps(item)}\n"
    return text
