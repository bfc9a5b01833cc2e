"""Runs on the test machine: the programs that serve a lab on its bridge address."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import cgroups, network
from .paths import CACHE, REGISTRY_PORT, WORK
from .shell import LabError, run

CONFIG = """version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""


@dataclass(frozen=True)
class Registry:
    """A real `docker-registry` on the lab's bridge address."""

    slot: int

    @property
    def url(self) -> str:
        """What an image reference begins with: `10.213.0.1:5000`."""
        return f"{network.address(self.slot, 1)}:{REGISTRY_PORT}"

    @property
    def storage(self) -> Path:
        """Where it keeps its blobs; a test may damage them."""
        return WORK / str(self.slot) / "registry"


def start_registry(slot: int, content: Path | None) -> Registry:
    """A registry with its own copy of this content."""
    registry = Registry(slot)
    if not shutil.which("docker-registry"):
        raise LabError("docker-registry is missing: run scripts/install-test-needs")
    registry.storage.mkdir(parents=True, exist_ok=True)
    if content:
        run(["cp", "-a", "--reflink=auto", f"{content}/.", registry.storage])
    config = registry.storage.with_suffix(".yml")
    config.write_text(CONFIG.format(storage=registry.storage, address=registry.url))
    _start(slot, "registry", ["docker-registry", "serve", str(config)])
    return registry


def start_mirror(slot: int) -> None:
    """The Debian mirror: the lab hosts know its address as deb.debian.org."""
    here = Path(__file__).with_name("mirror.py")
    cache = CACHE / "mirror"
    cache.mkdir(parents=True, exist_ok=True)
    python = sys.executable
    _start(slot, "mirror", [python, "-I", str(here), network.address(slot, 1), str(cache)])


@contextmanager
def serving(storage: Path, config: Path) -> Iterator[str]:
    """A registry on a free port of loopback, apart from any lab: its address.

    Args:
        config: where its configuration is written.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    config.write_text(CONFIG.format(storage=storage, address=address))
    # A group of its own, so that one signal ends it whatever it may have started.
    registry = subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for("127.0.0.1", port)
        yield address
    finally:
        os.killpg(registry.pid, signal.SIGTERM)
        registry.wait(10)
        config.unlink()


def wait_for(address: str, port: int, timeout: float = 15) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(f"nothing listens on {address}:{port}: {error}") from error
            time.sleep(0.01)


def group(slot: int) -> str:
    """The cgroup of a lab's services."""
    return f"{slot}-services"


def _start(slot: int, name: str, argv: list[str]) -> None:
    cgroups.make(group(slot))
    with (WORK / str(slot) / f"{name}.log").open("ab") as log:
        subprocess.Popen(
            [*cgroups.joining(group(slot)), *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                k: v for k, v in os.environ.items() if k.lower().endswith("_proxy") or k == "PATH"
            },
        )
