"""A monitor has no dead children: who made a container's first process in two steps is reaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostctl_host.monitor import client

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root


def children(pid: int) -> dict[int, str]:
    """Pid -> state letter of all children, from /proc."""
    found = {}
    for one in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = one.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found[int(one.parent.name)] = fields[0]
    return found


@pytest.mark.parametrize("kind", ["user", "time", "none"])
def test_only_the_first_process_is_left(workshop: Workshop, kind: str) -> None:
    def change(config: dict[str, Any]) -> None:
        if kind == "none":
            return
        config["linux"]["namespaces"].append({"type": kind})
        if kind == "user":
            mapping = [{"containerID": 0, "hostID": 200000, "size": 65536}]
            config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = mapping
            config["linux"].pop("sysctl", None)  # of groups that it does not have

    workshop.make("a", "sleep", "1000", change=change)
    now = client.start(workshop.paths, "a")
    until(lambda: list(children(now.monitor)) == [now.pid])


def test_nor_after_starts_in_a_row(workshop: Workshop) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})

    settings = {"restart": "always"}
    workshop.make("a", "sh", "-c", "sleep 0.2; exit 1", change=change, settings=settings)
    client.start(workshop.paths, "a")
    until(lambda: client.status(workshop.paths, "a").restarts >= 2)
    monitor = client.status(workshop.paths, "a").monitor
    until(lambda: set(children(monitor).values()) <= {"S", "R"})
    client.stop(workshop.paths, "a")
