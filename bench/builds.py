"""Runs on the developer's machine: the case of builds: hostctl, buildah and docker's BuildKit, cold and cached."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import hostctl
from .measure import RUNS, Row, run, seconds
from .peers import CACHE, WORK, Target, inside, program, target

FILES = 100
FILE_BYTES = 4000
DOCKER = "/usr/bin/docker"
"""Debian's own client: BuildKit in dockerd 20.10 needs no plugin, which a newer client in the path would ask for."""


def build() -> Iterator[Row]:
    """FROM, RUN, COPY of 100 files and CMD; all new, and then once more with nothing new."""
    with target() as place, _private_folders() as here:
        commands = {
            "ours": [*here, hostctl.COMMAND, "build", "-q"],
            "buildah": _buildah(place),
            "BuildKit": [*inside([DOCKER, "-H", place.docker_host]), "build", "-q"],
        }
        run([*here, hostctl.COMMAND, "load", "-i", str(place.image)])
        cold: dict[str, list[float]] = {name: [] for name in commands}
        cached: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(RUNS + 1):
            folder = _context(number)
            for times in (cold, cached):
                for name, command in commands.items():
                    whole = [*command, "-t", "bench-built:1", str(folder)]
                    run(["sync"])
                    times[name].append(seconds(lambda whole=whole: _run(whole)))  # type: ignore[misc]
    for what, times, goals in (
        ("build of 4 steps", cold, (0.5, 1.0)),
        ("the same, all steps cached", cached, (0.9, 2.0)),
    ):
        ours, *theirs = (statistics.median(found[1:]) for found in times.values())
        for name, other, goal in zip(("buildah bud", "docker build"), theirs, goals, strict=True):
            yield Row(what, name, ours, other, goal)


def _run(command: Sequence[str]) -> None:
    run(command, env={"DOCKER_BUILDKIT": "1"})


def _context(number: int) -> Path:
    """A folder that no engine has seen. Its Dockerfile takes the base image from the engine's own store."""
    folder = WORK / "context"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in range(FILES):
        (folder / f"file{file}").write_bytes(os.urandom(FILE_BYTES))
    steps = ("FROM bench:1", f"RUN echo {number} > /number", "COPY . /src/", 'CMD ["true"]')
    (folder / "Dockerfile").write_text("\n".join(steps) + "\n")
    return folder


def _buildah(place: Target) -> list[str]:
    """With folders of its own, and runc, which does what the others do."""
    if not program("buildah"):
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "buildah"])
    shutil.rmtree(CACHE / "buildah", ignore_errors=True)
    command = ["buildah", "--root", str(CACHE / "buildah"), "--runroot", str(WORK / "buildah")]
    run([*command, "pull", "-q", f"docker-archive:{place.image}"])
    return [
        *command,
        "bud",
        "-q",
        "--layers",
        "--pull-never",
        "--isolation",
        "oci",
        "--runtime",
        "runc",
    ]


@contextlib.contextmanager
def _private_folders() -> Iterator[list[str]]:
    """A mount namespace whose /var/lib/hostctl and /run/hostctl are the bench's: what goes before a command."""
    data = CACHE / "data" / "local"
    data.mkdir(parents=True, exist_ok=True)
    made = [place for place in (Path("/var/lib/hostctl"), Path("/run/hostctl")) if _make(place)]
    script = (
        f"mount --bind {data} /var/lib/hostctl && mount -t tmpfs none /run/hostctl && echo && cat"
    )
    holder = subprocess.Popen(
        ["unshare", "-m", "sh", "-ec", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
    finally:
        holder.communicate(b"")
        for place in made:
            place.rmdir()
        hostctl.forget()


def _make(place: Path) -> bool:
    """Whether it was not there."""
    if place.exists():
        return False
    place.mkdir(mode=0o700)
    return True


CASES: dict[str, Callable[[], Iterator[Row]]] = {"build": build}
