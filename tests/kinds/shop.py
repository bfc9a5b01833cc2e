"""Runs in tests: a host with containers from busybox: kinds as the agent takes them, without a registry."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from hostctl_host import config as config_kind
from hostctl_host import container, secret, volume
from hostctl_host.agent.host import Host
from hostctl_host.contract.change import Action, Change
from hostctl_host.contract.document import digest
from hostctl_host.contract.storage import FileGrant, Mount
from hostctl_host.monitor import client
from hostctl_host.runtime import cgroup
from hostctl_host.store.store import Store

from tests.runtime.workshop import BUSYBOX, until

from .machine import make_host

IMAGE = "b" * 64


class Shop:
    """Containers, volumes, secrets and configs below one folder, in the project `test`."""

    def __init__(self, folder: Path) -> None:
        self.host, self.blobs = make_host(str(folder))
        self.paths = self.host.paths
        self.image: dict[str, Any] = {"config": {"Cmd": ["sleep", "1000"]}}
        self.layer = Path(self.paths.data, "store", "l", "l1")
        for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev", "run"):
            (self.layer / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, self.layer / "bin" / "busybox")
        argv = ["chroot", str(self.layer), "/bin/busybox", "--install", "-s", "/bin"]
        subprocess.run(argv, check=True)
        (self.layer / "etc" / "passwd").write_text(
            "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"
        )
        (self.layer / "etc" / "group").write_text("root:x:0:\napp:x:1000:\n")

    def converge(self, kind: ModuleType, spec: Any) -> list[Change]:
        """As the agent does it: look, compare, act, look again; nothing may be left to do."""
        name = f"{kind.__name__.rpartition('.')[2]}.{spec.name}"
        changes = self.plan(kind, spec)
        if changes:
            kind.apply(spec, self.host.observations[name], changes, self.host)
        assert [c for c in self.plan(kind, spec) if c.action is not Action.RUN] == []
        self.host.changes[name] = changes
        return changes

    def plan(self, kind: ModuleType, spec: Any) -> list[Change]:
        name = f"{kind.__name__.rpartition('.')[2]}.{spec.name}"
        self.host.observations[name] = kind.observe(spec, self.host)
        self.host.changes[name] = kind.diff(spec, self.host.observations[name])
        return self.host.changes[name]

    def secret(self, name: str, value: bytes) -> secret.Spec:
        return secret.Spec(f"test_{name}", digest=self.blobs.add(value))

    def config(self, name: str, value: bytes, **more: Any) -> config_kind.Spec:
        return config_kind.Spec(f"test_{name}", digest=self.blobs.add(value), **more)

    def volume(self, name: str, **fields: Any) -> volume.Spec:
        made = volume.Spec(f"test_{name}", **fields)
        self.converge(volume, made)
        return made

    def spec(self, name: str, script: str = "sleep 1000", **fields: Any) -> container.Spec:
        fields.setdefault("network_mode", "none")
        fields.setdefault("stop_grace_period", 0.0)
        return container.Spec(f"test-{name}-1", "img", command=("sh", "-c", script), **fields)

    def run(self, name: str, script: str, **fields: Any) -> str:
        """Make a container, wait for its end: what it printed."""
        spec = self.spec(name, script, **fields)
        self.converge(container, spec)
        until(lambda: client.status(self.paths, spec.name).status == "exited")
        until(lambda: client.status(self.paths, spec.name).monitor == 0)
        return self.output(spec.name)

    def output(self, name: str) -> str:
        import json

        path = Path(self.paths.container(name), "log", "container.log")
        lines = path.read_text().splitlines() if path.exists() else []
        return "".join(json.loads(line)["log"] for line in lines)

    def root(self, name: str) -> Path:
        """The root of a running container, seen from here."""
        return Path(f"/proc/{client.status(self.paths, name).pid}/root")

    def mounts(self, name: str) -> dict[str, list[str]]:
        """Mount point -> the fields of its line in the running container's mountinfo."""
        pid = client.status(self.paths, name).pid
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        return {line.split()[4]: line.split() for line in lines}

    def clear(self) -> None:
        for name in client.names(self.paths):
            client.remove(self.paths, name)
        cgroup.release(cgroup.Cgroup(cgroup.base(self.paths.run), cgroup.detect()))
        cgroup.prune(self.paths.run)


class _Store(Store):
    """Stands in for the image store: there is one image."""

    shop: Shop

    def resolve(self, name: str) -> str:
        return IMAGE

    def config(self, image_id: str) -> dict[str, Any]:
        return self.shop.image

    def lower(self, image_id: str) -> list[str]:
        return ["l1"]


@contextmanager
def open_shop(folder: Path, patch: Any) -> Iterator[Shop]:
    shop = Shop(folder)
    patch.setattr("hostctl_host.store.store.Store", type("Store", (_Store,), {"shop": shop}))
    try:
        yield shop
    finally:
        shop.clear()


def grep(folder: str, value: bytes) -> list[str]:
    """Files below the folder that hold the value."""
    found = []
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as stream:
                    if value in stream.read():
                        found.append(path)
    return found


__all__ = ["FileGrant", "Host", "Mount", "Shop", "digest", "grep", "open_shop"]


def data(shop: Shop, name: str) -> Path:
    """Where the volume's content lies."""
    return Path(shop.paths.volume(f"test_{name}"), "_data")
