"""Runs on the controller: this machine as a host, without SSH."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .process import ProcessStream
from .stream import Stream

if TYPE_CHECKING:
    from .target import Target

_PRIVATE = 0o077


class LocalConnection:
    """Runs commands here, through `sh` as a login shell would."""

    def run(self, command: str) -> Stream:
        return ProcessStream(["/bin/sh", "-c", command])

    def agent(self, target: Target, digest: str, args: tuple[str, ...]) -> Stream | None:
        """The agent, if it is here and for root by root: what `launch` lets three shells find out otherwise."""
        if os.geteuid() or (target.become and target.become_user != "root"):
            return None
        data, run = target.data_dir or "/var/lib/hostctl", target.run_dir or "/run/hostctl"
        agents = os.path.join(data, "agents")
        home = os.path.join(agents, digest)
        start = os.path.join(home, "start.py")
        try:
            if any(os.stat(path).st_uid for path in (start, home, agents)):
                return None
            python = target.python
            if not python:
                with open(os.path.join(home, "interpreter"), encoding="utf-8") as file:
                    python = file.readline().rstrip("\n")
        except OSError:
            return None
        if not os.path.isabs(python) or not os.access(python, os.X_OK):
            return None
        words = [python, "-I", "-S", start, *args, "--data-dir", data, "--run-dir", run]
        return ProcessStream(words, umask=_PRIVATE)

    def close(self) -> None:
        """Nothing is kept open."""
