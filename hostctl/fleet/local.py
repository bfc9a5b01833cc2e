"""Runs on the controller: this machine as a host, without SSH."""

from __future__ import annotations

from .process import ProcessStream
from .stream import Stream


class LocalConnection:
    """Runs commands here, through `sh` as a login shell would."""

    def run(self, command: str) -> Stream:
        return ProcessStream(["/bin/sh", "-c", command])

    def close(self) -> None:
        """Nothing is kept open."""
