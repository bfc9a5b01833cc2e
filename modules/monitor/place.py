"""Runs on the managed host, in children of a monitor: which container, and where its files are."""

from __future__ import annotations

from ..agent.paths import Paths
from ..runtime import cgroup
from . import files, state
from .endpoints import Endpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .state import State


class Place:
    """Which container, and where: from the line that asked for its monitor."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.verb, self.name, self.data, self.run = line.decode().split("\0")
        self._settings: files.Settings | None = None
        self.log_folder = f"{self.data}/containers/{self.name}/log"

    def settings(self) -> files.Settings:
        """Its monitor.json, as it is when an act first asks."""
        if self._settings is None:
            self._settings = files.settings(self.paths(), self.name)
        return self._settings

    def paths(self) -> Paths:
        return Paths(self.data, self.run)

    def folder(self) -> str:
        return self.paths().container_run(self.name)

    def keep(self, now: State) -> None:
        """Write down, for after a reboot, how it started or ended; a full disk is no reason to end."""
        try:
            state.keep(self.paths().container(self.name), now)
        except OSError:
            return

    def cgroup(self) -> cgroup.Cgroup:
        return cgroup.Cgroup(files.cgroup_path(self.paths(), self.name), cgroup.detect())

    def endpoints(self) -> Endpoints:
        return Endpoints(self.paths(), self.name, files.network(self.paths(), self.name))
