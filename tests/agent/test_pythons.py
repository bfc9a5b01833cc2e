"""The same agent under every Python that hosts may have and that this machine has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hostctl_host.contract.report import HostStatus, Status

from .test_run import note
from .wire import World


def _pythons() -> list[str]:
    """One of each version from 3.9 on: the distribution's, and pyenv's where there are any."""
    candidates = ["/usr/bin/python3", shutil.which("python3.9") or ""]
    for version in ("3.9", "3.11", "3.13"):
        found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python3"))
        candidates += [str(path) for path in found[-1:]]
    by_version: dict[str, str] = {}
    for path in candidates:
        if path and Path(path).exists():
            shown = subprocess.run([path, "-V"], capture_output=True, text=True, check=False)
            if shown.returncode == 0:  # pyenv's shims are there for versions that are not
                by_version.setdefault(shown.stdout.split()[1].rsplit(".", 1)[0], path)
    return list(by_version.values())


@pytest.mark.root
@pytest.mark.parametrize("python", _pythons())
def test_plan_apply_destroy(world: World, tmp_path: Path, python: str) -> None:
    world.python = python
    resources = (
        note(tmp_path / "t", section="tasks", notify=["h"]),
        note(tmp_path / "a"),
        note(tmp_path / "b", needs=["note.a"]),
    )
    handlers = [{**note(tmp_path / "h"), "id": "handler.h"}]
    assert world.plan(*resources, handlers=handlers).count(Status.CHANGED) == 4
    assert world.apply(*resources, handlers=handlers).count(Status.CHANGED) == 4
    assert world.apply(*resources, handlers=handlers).count(Status.OK) == 3
    assert world.destroy().status is HostStatus.OK
    assert not (tmp_path / "b").exists()


TWICE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from hostctl_host.runtime import syscalls
fork = syscalls.frugal("clone", 17)
for _ in range(2):
    if (pid := fork()) == 0:
        import json
        if (grandchild := os.fork()) == 0:
            os._exit(0)
        os._exit(os.waitpid(grandchild, 0)[1] + 3)
    import csv
    print(os.waitpid(pid, 0)[1] >> 8)
"""


@pytest.mark.parametrize("python", _pythons())
def test_a_frugal_child_is_a_whole_python(python: str) -> None:
    """It imports and forks as its parent still does: since 3.13 the child returns locks of its parent's."""
    editable = Path(__file__).parents[2] / "build" / "editable"
    argv = [python, "-I", "-S", "-c", TWICE, str(editable)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("3\n3\n", "")
