"""Runs on the managed host: where hostctl keeps things. Apart from `host`, so that monitors need no dataclasses."""

from __future__ import annotations

import os

DATA_DIR = "/var/lib/hostctl"
RUN_DIR = "/run/hostctl"


class Paths:
    """The two folders of hostctl on a host; both 0700 and moved by host variables.

    `data` survives a reboot (store, volumes, containers, networks, projects), `run` does not.
    """

    def __init__(self, data: str = DATA_DIR, run: str = RUN_DIR) -> None:
        self.data = data
        self.run = run

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Paths) and (self.data, self.run) == (other.data, other.run)

    def __hash__(self) -> int:
        return hash((self.data, self.run))

    def container(self, name: str) -> str:
        """`DATA/containers/NAME`: bundle, spec, writable layer and log of one container."""
        return os.path.join(self.data, "containers", name)

    def container_run(self, name: str) -> str:
        """`RUN/containers/NAME`: state, pipes and the monitor's socket of one container."""
        return os.path.join(self.run, "containers", name)

    def network(self, name: str) -> str:
        """`DATA/networks/NAME`: the network's record (subnet, addresses)."""
        return os.path.join(self.data, "networks", name)

    def volume(self, name: str) -> str:
        """`DATA/volumes/NAME`: the volume's record; its content lies in `_data`."""
        return os.path.join(self.data, "volumes", name)
