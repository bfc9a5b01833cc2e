"""Runs on the developer's machine: the case of shipping: one changed layer from one host to five others."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import hostctl
from .measure import RUNS, Row, run, seconds
from .peers import CACHE, PORT, WORK, Target, inside, target

HOSTS = 5
BASE_FILES = 100
BASE_FILE_BYTES = 2_000_000
CHANGED_BYTES = 1_000_000
NAME = "bench-ship:1"
DOCKER = "/usr/bin/docker"


def ship() -> Iterator[Row]:
    """An image of 201 MB, of which 1 MB is new; the others have the rest. Every host has an engine of its own."""
    with target(HOSTS) as place, _engines() as sockets:
        inventory = _inventory(place)
        source = [*inside([DOCKER]), "-H", place.docker_host]
        ours = [hostctl.COMMAND, "push", "-q", "-i", str(inventory), NAME]
        ours += ["--to", "all:!source", "-l", "source"]
        theirs = ["sh", "-c", _pipes(place, sockets)]
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(RUNS + 2):  # the first brings the base, the second does not count
            _change(source, inventory, whole=number == 0)
            for name, command in (("ours", ours), ("theirs", theirs)):
                run(["sync"])
                times[name].append(seconds(lambda command=command: run(command)))  # type: ignore[misc]
        hostctl.forget()
    yield Row(
        f"1 MB of an image of 201 MB, to {HOSTS} hosts",
        "docker save | ssh docker load",
        statistics.median(times["ours"][2:]),
        statistics.median(times["theirs"][2:]),
        0.2,
    )


def _change(source: list[str], inventory: Path, *, whole: bool) -> None:
    """Another last layer, in docker's source and in ours."""
    folder = CACHE / "ship-context"
    if whole:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "base").mkdir(parents=True)
        for number in range(BASE_FILES):
            (folder / "base" / str(number)).write_bytes(os.urandom(BASE_FILE_BYTES))
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY base /base\nCOPY top /top\n")
    (folder / "top").write_bytes(os.urandom(CHANGED_BYTES))
    archive = folder / "saved.tar"
    (folder / ".dockerignore").write_text("saved.tar\n")
    run([*source, "build", "-q", "-t", NAME, str(folder)])
    run([*source, "save", "-o", str(archive), NAME])
    load = [hostctl.COMMAND, "load", "-q", "--inventory", str(inventory), "-l", "source"]
    run([*load, "-i", str(archive)])
    archive.unlink()


def _pipes(place: Target, sockets: list[str]) -> str:
    """A script that sends the image to all engines at once."""
    ssh = ["ssh", "-F", "/dev/null", "-p", str(PORT), "-i", str(place.key)]
    ssh += ["-o", f"UserKnownHostsFile={place.known_hosts}"]
    save = shlex.join([*inside([DOCKER]), "-H", place.docker_host, "save", NAME])
    lines = [
        f"{save} | {shlex.join([*ssh, f'root@{address}', DOCKER, '-H', socket, 'load', '-q'])} &"
        for address, socket in zip(place.addresses, sockets, strict=True)
    ]
    return "\n".join([*lines, "wait"])


def _inventory(place: Target) -> Path:
    """The target's hosts, and this machine as the one that has the image."""
    path = hostctl.inventory(place, HOSTS)
    told = json.loads(path.read_text())
    told["all"]["hosts"]["source"] = {
        "ansible_connection": "local",
        "hostctl_data_dir": str(CACHE / "data" / "source"),
        "hostctl_run_dir": str(WORK / "hostctl" / "source"),
    }
    path.write_text(json.dumps(told))
    return path


@contextlib.contextmanager
def _engines() -> Iterator[list[str]]:
    """A dockerd for each host, with folders of its own; their sockets."""
    daemons = []
    sockets = [f"unix://{WORK}/ship-{number}.sock" for number in range(1, HOSTS + 1)]
    folders = [CACHE / "ship" / str(number) for number in range(1, HOSTS + 1)]
    try:
        for socket, folder in zip(sockets, folders, strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            private = WORK / f"ship-{folder.name}"
            command = ["dockerd", "--data-root", str(folder), "--exec-root", str(private)]
            command += ["--pidfile", f"{private}.pid", "-H", socket]
            command += ["--bridge=none", "--iptables=false"]
            log = Path(f"{private}.log").open("wb")  # noqa: SIM115 # the daemon's for good
            daemons.append(subprocess.Popen(inside(command), stdout=log, stderr=log))
        for socket in sockets:
            _wait(socket)
        yield sockets
    finally:
        for daemon in daemons:
            daemon.send_signal(signal.SIGTERM)
        for daemon in daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(30)
        shutil.rmtree(CACHE / "ship", ignore_errors=True)
        shutil.rmtree(CACHE / "ship-context", ignore_errors=True)


def _wait(socket: str) -> None:
    end = time.monotonic() + 60
    while subprocess.run([DOCKER, "-H", socket, "version"], capture_output=True).returncode != 0:  # noqa: PLW1510
        if time.monotonic() > end:
            raise TimeoutError(f"no dockerd at {socket}")
        time.sleep(0.2)


CASES: dict[str, Callable[[], Iterator[Row]]] = {"ship": ship}
