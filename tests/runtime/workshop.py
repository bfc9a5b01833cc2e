"""Runs on the test machine: makes containers' folders from busybox, without an image store or a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostctl_host.agent.host import Paths
from hostctl_host.container import Spec
from hostctl_host.monitor import client
from hostctl_host.monitor.state import State
from hostctl_host.runtime import bundle, cgroup

BUSYBOX = "/usr/bin/busybox"


class Workshop:
    """Containers below one temporary folder; `clear` ends and removes all of them, and their zygote."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(str(folder / "data"), str(folder / "run"))
        self.layers = folder / "layers"
        self._make_layer()

    def _make_layer(self) -> None:
        root = self.layers / "l1"
        for name in ("bin", "etc", "tmp", "root"):
            (root / name).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        shutil.copy(BUSYBOX, root / "bin" / "busybox")
        subprocess.run(["chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"], check=True)
        (root / "etc" / "passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
        )
        (root / "etc" / "group").write_text("root:x:0:\napp:x:1000:\nlogs:x:44:app\n")

    def config(self, name: str, *command: str, **spec: Any) -> dict[str, Any]:
        """The bundle that the agent would write, without the files of /etc."""
        folder = self.paths.container(name)
        spec.setdefault("network_mode", "none")
        made = bundle.make_config(
            Spec(name=name, image="busybox", command=command, **spec),
            {},
            folder=folder,
            layers=["l1"],
            links_dir=str(self.layers),
            volumes={mount.target: mount.source for mount in spec.get("volumes", ())},
        )
        made["mounts"] = [
            m for m in made["mounts"] if m["source"] != f"{folder}/{m['destination'][5:]}"
        ]
        return made

    def make(
        self,
        name: str,
        *command: str,
        settings: dict[str, Any] | None = None,
        change: Callable[[dict[str, Any]], None] | None = None,
        **spec: Any,
    ) -> None:
        """Write the container's folder."""
        folder = Path(self.paths.container(name))
        for part in ("bundle/rootfs", "upper", "work", "log"):
            (folder / part).mkdir(parents=True)
        config = self.config(name, *command, **spec)
        if change:
            change(config)
        (folder / "bundle" / "config.json").write_text(json.dumps(config))
        (folder / "monitor.json").write_text(json.dumps(settings or {}))
        network = {"mode": "none", "endpoints": [], "ports": [], "dns": False}
        (folder / "network.json").write_text(json.dumps(network))
        record = {"project": "p", "image": "i", "spec": {"service": name[:1], "image": "busybox"}}
        (folder / "spec.json").write_text(json.dumps(record))

    def run(self, name: str, *command: str, **more: Any) -> tuple[State, str]:
        """Make, start, wait for its end: the state, and what it printed."""
        self.make(name, *command, **more)
        client.start(self.paths, name)
        ended = self.wait(name, "exited")
        return ended, self.output(name)

    def wait(self, name: str, status: str, seconds: float = 10) -> State:
        """Wait until the container has that status."""
        deadline = time.monotonic() + seconds
        while True:
            now = client.status(self.paths, name)
            if now.status == status:
                return now
            assert time.monotonic() < deadline, f"{name} is {now}, not {status}"
            time.sleep(0.01)

    def entries(self, name: str) -> list[dict[str, str]]:
        """The log, parsed."""
        path = Path(self.paths.container(name)) / "log" / "container.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def output(self, name: str) -> str:
        return "".join(entry["log"] for entry in self.entries(name))

    def wait_output(self, name: str, text: str, seconds: float = 10) -> None:
        until(lambda: text in self.output(name), seconds)

    def cgroups(self) -> list[str]:
        """Folders of this workshop's cgroups that are there."""
        base = cgroup.Cgroup(cgroup.base(self.paths.run) + "/containers", cgroup.detect())
        return [
            os.path.join(folder, entry)
            for folder in base.folders()
            if os.path.isdir(folder)
            for entry in os.listdir(folder)
            if os.path.isdir(os.path.join(folder, entry))
        ]

    def clear(self) -> None:
        for name in client.names(self.paths):
            client.remove(self.paths, name)
        cgroup.release(cgroup.Cgroup(cgroup.base(self.paths.run), cgroup.detect()))
        cgroup.prune(self.paths.run)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def start_in(own: cgroup.Cgroup, *command: str) -> subprocess.Popen[bytes]:
    """A process in the cgroup; it starts there."""
    return subprocess.Popen(command, preexec_fn=own.enter)
