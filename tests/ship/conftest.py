"""Fixtures of the tests of shipping: several hosts that are folders of this machine, and a playbook for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host.store.store import Image, Store

from tests.store.registries import RunningRegistry, start_registry

PROGRAM = Path(sys.executable).with_name("hostctl")


class Folders:
    """Hosts `a`, `b`, `c` and this machine, each with folders of its own, and hostctl in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site.yml"
        names = ("a", "b", "c", "localhost")
        lines = [
            f"  {name}: {{ansible_connection: local, hostctl_data_dir: {folder}/{name}/data,"
            f" hostctl_run_dir: {folder}/{name}/run}}\n"
            for name in names
        ]
        (folder / "inventory.yml").write_text("all:\n hosts:\n" + "".join(lines))

    def clear(self) -> None:
        """As at first, but that the agents are there: putting them there takes longer than most tests."""
        for place in self.folder.iterdir():
            if place.name != "inventory.yml" and not place.is_dir():
                place.unlink()
        for found in [
            *self.folder.glob("*/data/*"),
            *self.folder.glob("*/run"),
            self.folder / "web",
        ]:
            if found.name != "agents":
                subprocess.run(["rm", "-rf", str(found)], check=True)

    def data(self, host: str) -> Path:
        return self.folder / host / "data"

    def store(self, host: str) -> Store:
        return Store(str(self.data(host)))

    def image(self, host: str, name: str) -> Image | None:
        return self.store(host).image(name)

    def id(self, host: str, name: str) -> str:
        found = self.image(host, name)
        assert found is not None, f"{host} has no {name}"
        return found.image_id

    def play(self, text: str) -> None:
        self.site.write_text(text)

    def context(self, name: str = "web", **files: bytes) -> Path:
        """A folder whose Dockerfile copies all of it."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /srv\n")
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return folder

    def __call__(self, verb: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(PROGRAM), verb, "-i", "inventory.yml", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
            env={**os.environ, "HOME": str(self.folder)},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("hosts"))


@pytest.fixture
def hosts(folders: Folders) -> Folders:
    folders.clear()
    return folders


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[RunningRegistry]:
    """A real registry on loopback, empty at first; its files are in `tmp_path/registry`."""
    folder = tmp_path / "registry"
    folder.mkdir()
    running = start_registry(str(folder))
    yield running
    running.stop()
