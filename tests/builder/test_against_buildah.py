"""The same Dockerfiles built here and with buildah: the same files, modes, owners and config."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.builder.dockerfiles import CASES, Case
from tests.builder.trees import Buildah, tree_of

_COMPARED = (
    "Env", "Cmd", "Entrypoint", "User", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal",
    "OnBuild", "Healthcheck", "Shell",
)  # fmt: skip


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    return Buildah(tmp_path_factory.mktemp("buildah"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_image_is_as_buildahs(case: Case, hostctl, buildah, registry, tmp_path) -> None:
    folder = case.write(tmp_path / "context", registry)
    _archives(folder)
    words = [
        w for name, value in case.arguments.items() for w in ("--build-arg", f"{name}={value}")
    ]
    words += ["--target", case.target] if case.target else []
    hostctl("build", "-t", f"case:{case.name}", *words, str(folder))
    buildah.build(folder, f"case:{case.name}", case.arguments, case.target)
    ours = hostctl.store.config(hostctl.store.resolve(f"case:{case.name}"))["config"]
    theirs = buildah.config(f"case:{case.name}")
    assert _shown(ours) == _shown(theirs)
    assert tree_of(hostctl.store, f"case:{case.name}") == buildah.tree(f"case:{case.name}")


def _shown(config: dict[str, Any]) -> dict[str, Any]:
    found = {key: config[key] for key in _COMPARED if config.get(key)}
    labels = dict(config.get("Labels") or {})
    labels.pop("io.buildah.version", None)
    return {**found, "Labels": labels}


def _archives(folder: Path) -> None:
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as archive:
            info = tarfile.TarInfo("in/file")
            info.mode, info.uid, info.gid = 0o640, 11, 12
            archive.addfile(info)
