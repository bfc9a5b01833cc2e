"""Runs on the managed host, in children of a monitor: which container, and where its files are, also a crash's."""

from __future__ import annotations

import os

from ..agent.paths import Paths
from ..runtime import cgroup
from . import files, state
from .endpoints import Endpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .apart import Answer
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


def told(step: Callable[..., Answer]) -> Callable[..., Answer]:
    """A step that fails leaves word of it: nobody reads a monitor's stderr."""

    def run(line: bytes, *args: Any) -> Answer:
        place = Place(line)
        try:
            return step(place, *args)
        except BaseException as error:
            path = os.path.join(place.folder(), files.CRASH)
            with open(path, "w", encoding="utf-8", opener=files.private) as crash:
                crash.write(f"{type(error).__name__}: {error}\n")
                at = error.__traceback__
                while at is not None:
                    code = at.tb_frame.f_code
                    crash.write(f"  {code.co_filename}:{at.tb_lineno} {code.co_name}\n")
                    at = at.tb_next
            raise

    return run
