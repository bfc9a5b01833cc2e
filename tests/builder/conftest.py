"""Fixtures of the build tests: a registry with the lab's images, one host's folders, and a way to build there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostctl_host.agent.host import Paths
from hostctl_host.store.store import Store

from tests.lab.images import registry_content
from tests.lab.services import serving


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. It serves what labs pull from, and nothing is pushed to it."""
    config = tmp_path_factory.mktemp("registry") / "config.yml"
    with serving(registry_content(), config) as address:
        yield address


class Builder:
    """The command `hostctl` for this machine as a host with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(str(folder / "data"), str(folder / "run"))
        self.store = Store(self.paths.data)
        self.inventory = folder / "inventory.yml"
        self.inventory.write_text(
            "all: {hosts: {here: {ansible_connection: local, "
            f"hostctl_data_dir: {self.paths.data}, hostctl_run_dir: {self.paths.run}}}}}}}\n"
        )
        self._program = Path(__import__("sys").executable).with_name("hostctl")

    def __call__(
        self,
        verb: str,
        *words: str,
        code: int = 0,
        env: dict[str, str] | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """The verb may be two words, of a group."""
        done = subprocess.run(
            [str(self._program), *verb.split(), "-i", str(self.inventory), *words],
            capture_output=True,
            text=True,
            timeout=300,
            input=stdin,
            check=False,
            env={**os.environ, **(env or {})},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self._program), "build", "-i", str(self.inventory), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def hostctl(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(tmp_path_factory.mktemp("host"))


@pytest.fixture
def context(tmp_path: Path, registry: str) -> Callable[..., Path]:
    """Writes a context: Dockerfile (`BASE` and `SHELL` stand for images) and files; its folder."""

    def write(dockerfile: str, **files: str) -> Path:
        folder = tmp_path / "context"
        folder.mkdir(exist_ok=True)
        text = dockerfile.replace("BASE", f"{registry}/base:1").replace(
            "SHELL:", f"{registry}/shell:"
        )
        (folder / "Dockerfile").write_text(text)
        for name, content in files.items():
            (folder / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
            (folder / name.replace("__", "/")).write_text(content)
        return folder

    return write
