"""Runs on the test machine: Debian's dockerd in namespaces of its own, for containers to put beside hostctl's.

Its network and its mounts are its own, so nothing of it reaches this machine but cgroups below `docker`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostctl_host.contract.kernel import CAPABILITY_NAMES

SECONDS = 60.0
# What a program may open in today's Docker, or what this machine allows.
_, _CEILING = resource.getrlimit(resource.RLIMIT_NOFILE)
NOFILE = f"1024:{min(524288, _CEILING) if _CEILING > 0 else 524288}"

# A runtime for machines that may not do all: runc fails where a capability cannot be had, hostctl does without.
RUNTIME = """#!/usr/bin/python3 -I
import json, os, sys
if "--bundle" in sys.argv:
    path = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    if os.path.exists(path):
        config = json.load(open(path))
        status = open("/proc/self/status").read()
        have = int(status.partition("CapBnd:")[2].split()[0], 16)
        numbers = json.loads(os.environ["CAPABILITIES"])
        for kind, names in (config["process"].get("capabilities") or {}).items():
            config["process"]["capabilities"][kind] = [n for n in names if have >> numbers.get(n, 0) & 1]
        json.dump(config, open(path, "w"))
os.execvp("runc", ["runc", *sys.argv[1:]])
"""


class Docker:
    """A dockerd with the image `box`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = f"unix://{folder}/docker.sock"

    def __call__(self, *argv: str) -> str:
        done = subprocess.run(
            ["docker", "-H", self._socket, *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env={**os.environ, "HOME": str(self._folder)},
        )
        assert done.returncode == 0, f"docker {argv}: {done.stderr}"
        return done.stdout

    def run(self, *argv: str) -> tuple[str, int]:
        """Start a container: its id, and its first process."""
        name = self("run", "-d", "--network=none", *argv).strip()
        return name, int(self("inspect", "-f", "{{.State.Pid}}", name))

    def import_image(self, root: Path, *changes: str) -> None:
        """An image of one layer from a folder, with these instructions of a Dockerfile."""
        archive = self._folder / "root.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        self("import", *(f"--change={change}" for change in changes), str(archive), "box")

    def ready(self) -> bool:
        with contextlib.suppress(AssertionError):
            info: dict[str, Any] = json.loads(self("info", "-f", "{{json .}}"))
            return not info.get("ServerErrors")
        return False


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[Docker]:
    """A dockerd for as long as the block runs; nothing of it is left."""
    assert shutil.which("dockerd"), "dockerd is missing: run scripts/install-test-needs"
    found = Docker(folder)
    log = (folder / "dockerd.log").open("wb")
    argv = ["unshare", "--net", "--mount", "--propagation=private", "dockerd"]
    argv += [f"--data-root={folder}/data", f"--exec-root={folder}/exec", "--bridge=none"]
    argv += [f"--pidfile={folder}/docker.pid", f"--host=unix://{folder}/docker.sock"]
    argv += [
        f"--default-ulimit=nofile={NOFILE}",
        "--default-ulimit=core=-1:-1",
        "--iptables=false",
        "--ip-forward=false",
        "--storage-driver=overlay2",
    ]
    argv += ["--init-path=/usr/bin/catatonit"]
    runtime = folder / "runtime"
    runtime.write_text(RUNTIME)
    runtime.chmod(0o755)
    argv += [f"--add-runtime=fitting={runtime}", "--default-runtime=fitting"]
    environment = {
        **os.environ,
        "CAPABILITIES": json.dumps({name: number for number, name in enumerate(CAPABILITY_NAMES)}),
    }
    before = set(Path("/sys/fs/cgroup").glob("*/docker"))
    # Its own score is -500, and its containers' would count from there.
    started = subprocess.Popen(
        [*argv, "--oom-score-adjust=0"], stdout=log, stderr=log, env=environment
    )
    try:
        end = time.monotonic() + SECONDS
        while not found.ready():
            text = (folder / "dockerd.log").read_text()
            assert started.poll() is None and time.monotonic() < end, text
            time.sleep(0.1)
        yield found
    finally:
        for name in found("ps", "-aq").split() if started.poll() is None else ():
            found("rm", "-f", name)
        started.send_signal(signal.SIGTERM)
        started.wait(SECONDS)
        log.close()
        for path in set(Path("/sys/fs/cgroup").glob("*/docker")) - before:
            path.rmdir()
