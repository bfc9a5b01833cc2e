"""Runs on the test machine: the OCI command line as a program, in its own root folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import hostctl_host
from hostctl_host.runtime import cgroup

from tests.runtime.bundles import Bundle, Change

PACKAGES = str(Path(next(iter(hostctl_host.__path__))).parent)
Finished = subprocess.CompletedProcess[str]


class Command:
    """`python3 -m hostctl_host.runtime` with a root below the folder, and a cgroup that goes at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.group = f"hostctl-test/{uuid.uuid4().hex[:12]}"

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "hostctl_host.runtime", "--root", str(self.root), *words]

    def popen(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": PACKAGES, **more.pop("env", {})}
        return subprocess.Popen(self.argv(*words), text=True, env=environment, **more)

    def __call__(self, *words: str, code: int = 0, input: str = "", **more: Any) -> str:
        """Run it to its end and expect that exit code: what it printed, or said on stderr if it failed."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.popen(*words, **{**pipes, **more})
        out, err = process.communicate(input, timeout=30)
        assert process.returncode == code, (process.returncode, out, err)
        return str(out if code == 0 or not err else err)

    def bundle(self, name: str, *command: str, change: Change | None = None) -> Bundle:
        """A bundle whose container is to be called `name`."""
        made = Bundle(self.folder)

        def whole(config: dict[str, Any]) -> None:
            config["linux"]["cgroupsPath"] = f"/{self.group}/{name}"
            if change is not None:
                change(config)

        made.write(*command, change=whole)
        return made

    def created(self, name: str, *command: str, change: Change | None = None) -> Bundle:
        """A container that waits for its start; what it prints goes to the bundle's `output`."""
        made = self.bundle(name, *command, change=change)
        with open(made.output, "w") as output:
            self(
                *("create", "-b", str(made.folder), name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return made

    def started(self, name: str, *command: str, change: Change | None = None) -> Bundle:
        made = self.created(name, *command, change=change)
        self("start", name)
        return made

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("state", name))
        return found

    def status(self, name: str) -> str:
        return str(self.state(name)["status"])

    def cgroup(self, name: str = "") -> cgroup.Cgroup:
        return cgroup.Cgroup(f"{self.group}/{name}".rstrip("/"), cgroup.detect())

    def clear(self) -> None:
        """Remove all; nothing of any may be left then."""
        for path in self.root.glob("*") if self.root.exists() else ():
            self("delete", "--force", path.name)
        assert not self.root.exists() or not list(self.root.iterdir())
        left = [folder for folder in self.cgroup().folders() if list(Path(folder).glob("*/"))]
        cgroup.release(self.cgroup())
        for folder in cgroup.Cgroup("hostctl-test", cgroup.detect()).folders():
            try:
                os.rmdir(folder)
            except OSError:
                continue  # others are in it
        assert not left
