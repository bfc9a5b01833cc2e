"""Runs on the developer's machine: an agent that is connected and waits, in the target's network namespace.

What is measured with it is the time from the request's frame to the event's: no connection, no controller.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostctl_host.contract.document import digest

from tests.agent.wire import START, Agent, World, document

from .peers import CACHE, WORK, Target, inside

IMAGE = "docker.io/library/bench:1"
PROJECT = "bench"
PYTHON = "/usr/bin/python3"
"""The host's own, as over SSH."""
READY = 0.3
"""Seconds after the hello in which the agent imports what it will need, as on a real network."""


class Host:
    """One host's folders: documents are run there, and calls made, each by an agent of its own."""

    def __init__(self, world: World, image: dict[str, Any], blobs: tuple[bytes, ...]) -> None:
        self._world = world
        self._image = image
        self._blobs = blobs

    @contextlib.contextmanager
    def _agent(self, mode: str) -> Iterator[Agent]:
        start = [PYTHON, "-I", "-S", "-c", START, str(self._world.agent)]
        options = ["--data-dir", str(self._world.data), "--run-dir", str(self._world.run)]
        with Agent(inside([*start, mode, *options]), {}) as agent:
            agent.read_until("hello")
            time.sleep(READY)
            yield agent

    def apply(self, *specs: dict[str, Any], network: str = "", until: str = "") -> float:
        """Seconds from the document's frame to the report, or to the first progress that says `until`.

        Args:
            specs: of containers: `name` and what differs from a sleeping one of the bench's image.
            network: the bridge that all are attached to; none: they have no network.
        """
        resources: list[dict[str, Any]] = [self._image]
        more: dict[str, Any] = {"network_mode": "none"}
        if network:
            resources.append(_resource("network", {"name": network}))
            more = {"networks": [{"network": network}]}
        needs = [resource["id"] for resource in resources]
        for spec in specs:
            common = {"image": IMAGE, "command": ["sleep", "1000000"], "stop_signal": "KILL"}
            resources.append(_resource("container", {**common, **more, **spec}, needs))
        found: list[float] = []
        with self._agent("apply") as agent:
            begun = time.perf_counter()

            def look(frame: dict[str, Any]) -> None:
                if until and not found and frame.get("message") == until:
                    found.append(time.perf_counter() - begun)

            agent.on_frame = look
            report = agent.run(document(*resources, project=PROJECT, prune=True), self._blobs)
            found.append(time.perf_counter() - begun)
        if report.failures:
            raise AssertionError(report.failures[0].message)
        return found[0]

    def destroy(self) -> float:
        """Seconds from the call's frame to the report."""
        with self._agent("apply") as agent:
            begun = time.perf_counter()
            args = {"project": PROJECT, "volumes": True}
            agent.send({"type": "call", "verb": "destroy", "args": args})
            report = agent.report()
            took = time.perf_counter() - begun
        if report.failures:
            raise AssertionError(report.failures[0].message)
        return took

    def execute(self, name: str, *command: str) -> float:
        """Seconds from the call's frame to the end of the program in the container."""
        with self._agent("serve") as agent:
            begun = time.perf_counter()
            args = {"name": name, "command": list(command)}
            agent.send({"type": "call", "verb": "exec", "args": args})
            code = agent.read_until("done")["code"]
            took = time.perf_counter() - begun
        if code != 0:
            raise AssertionError(f"exit code {code}")
        return took

    def state(self, name: str) -> dict[str, Any]:
        """What the container's monitor has written down."""
        path = self._world.run / "containers" / name / "state.json"
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    def config(self, name: str) -> dict[str, Any]:
        """The container's bundle, as the OCI runtime specification has it."""
        path = self._world.data / "containers" / name / "bundle" / "config.json"
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    @property
    def containers(self) -> list[str]:
        """Names of all that were started."""
        return [entry.name for entry in (self._world.run / "containers").iterdir()]

    def log(self, name: str) -> Path:
        """Where the container's output goes."""
        return self._world.data / "containers" / name / "log"


@contextlib.contextmanager
def warm_host(place: Target) -> Iterator[Host]:
    """A host with the bench's image in its store; all that is made there is removed afterwards."""
    folder = CACHE / "warm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    world = World(folder)
    world.run = WORK / "warm"
    with tarfile.open(place.image) as archive:
        parts = {item.name: archive.extractfile(item) for item in archive if item.isfile()}
        content = {name: stream.read() for name, stream in parts.items() if stream}
    spec = {"name": IMAGE, "content": {name: digest(data) for name, data in content.items()}}
    host = Host(world, _resource("image", spec), tuple(content.values()))
    try:
        host.apply()
        yield host
    finally:
        host.destroy()
        shutil.rmtree(folder, ignore_errors=True)


def _resource(kind: str, spec: dict[str, Any], needs: list[str] | None = None) -> dict[str, Any]:
    name = f"{kind}.{spec['name']}"
    return {"id": name, "kind": kind, "section": "graph", "spec": spec, "needs": needs or []}
