"""Runs on the developer's machine: the cases of the runtime: starting, removing, entering, watching, logging."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .engines import CLIENTS, REST, docker, podman
from .measure import RUNS, Row, medians, processes, pss, run, seconds
from .peers import CACHE, WORK, Target, program, target
from .warm import Host, warm_host

MANY = 100
_HYBRID = "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; "
_TIMED = """
import subprocess, sys, time
for _ in range(int(sys.argv[1])):
    begun = time.perf_counter()
    subprocess.run(["crun", "run", "-b", sys.argv[2], "hcbench"], check=True)
    print(time.perf_counter() - begun)
"""
LOGGED_MB = 64
_WRITE = f"yes 'a line of sixty-three letters, as an access log of nginx may have one' | head -c {LOGGED_MB << 20}"


def start() -> Iterator[Row]:
    """A container that exists is started, until its program runs; `crun run` of the same root and program."""
    if not program("crun"):
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "crun"])
    with target() as place, warm_host(place) as host:
        host.apply({"name": "c"})
        bundle = _bundle(host.config("c"))
        ours, theirs = [], []
        for _ in range(RUNS + 1):
            host.apply({"name": "c", "state": "stopped"})
            ours.append(host.apply({"name": "c"}, until="running"))
            theirs.append(_crun(bundle))
    yield Row(
        "start to running, no network",
        "crun run of the same bundle",
        statistics.median(ours[1:]),
        statistics.median(theirs[1:]),
        1.0,
    )


def _crun(bundle: Path) -> float:
    """The second of two runs. crun refuses a hybrid host: it is kept from seeing cgroup version 2."""
    timed = [sys.executable, "-c", _TIMED, "2", str(bundle)]
    hidden = ["unshare", "-m", "sh", "-c", _HYBRID + 'exec "$@"', "sh", *timed]
    return float(run(hidden).split()[-1])


def _bundle(config: dict[str, Any]) -> Path:
    """Our container's configuration with a plain root, for a program that ends at once."""
    bundle = WORK / "bundle"
    bundle.mkdir()
    run(["cp", "-a", str(CACHE / "root"), str(bundle / "rootfs")])
    config["root"] = {"path": "rootfs", "readonly": False}
    config["process"]["args"] = ["true"]
    config["ociVersion"] = "1.0.2"  # all that Debian's crun knows
    config["linux"].pop("cgroupsPath", None)
    del config["annotations"]
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def hundred() -> Iterator[Row]:
    """100 containers on a bridge by one apply, and their removal, against Docker and Podman."""
    specs = [{"name": f"c{number}"} for number in range(MANY)]
    with target() as place, warm_host(place) as host:
        host.apply(*specs, network="net")
        host.apply(network="net")
        time.sleep(REST)
        ours = host.apply(*specs, network="net")
        time.sleep(REST)
        removed = host.destroy()
        time.sleep(REST)
        engines = (docker(place), podman(place))
        times = [(engine.start(MANY), _rest(), engine.remove()) for engine in engines]
    for name, must, (took, _, _) in zip(("docker", "podman"), (0.10, 0.15), times, strict=True):
        clients = f"{MANY} {name} run -d, {CLIENTS} clients"
        yield Row("100 containers on a bridge, one apply", clients, ours, took, must)
    yield Row("stop and remove 100", "docker rm -f of 100", removed, times[0][2], 0.25)


def _rest() -> None:
    time.sleep(REST)


def enter() -> Iterator[Row]:
    """`true` in a running container, agent connected, against `docker exec`."""
    with target() as place, warm_host(place) as host:
        host.apply({"name": "c"})
        client = ["docker", "-H", place.docker_host]
        run([*client, "run", "-d", "--name", "c1", "bench:1"])
        ours, theirs = [], []
        for _ in range(RUNS + 1):
            ours.append(host.execute("c", "true"))
            theirs.append(seconds(lambda: run([*client, "exec", "c1", "true"])))
        run([*client, "rm", "-f", "c1"])
    medians_of = (statistics.median(ours[1:]), statistics.median(theirs[1:]))
    yield Row("exec true in a running container", "docker exec", *medians_of, 0.5)


def watch() -> Iterator[Row]:
    """PSS of a monitor, 100 running that log each second and are probed, started by 20 applies."""
    script = "while :; do echo a line of the log; sleep 1; done"
    health = {"test": ["CMD", "true"], "interval": 5.0}
    specs: list[dict[str, Any]] = [
        {"name": f"c{number}", "command": ["sh", "-c", script], "healthcheck": health}
        for number in range(MANY)
    ]
    with target() as place, warm_host(place) as host:
        for count in range(5, MANY + 1, 5):
            host.apply(*specs[:count])
        time.sleep(30)
        ours = statistics.mean(pss(host.state(name)["monitor"]) for name in host.containers)
        shims = _shims(place)
        conmons = _conmons(place)
    yield Row("monitor, PSS, 100 logging and probed", "0.6 MB", ours, 0.6, 1.0, "MB")
    yield Row("monitor, PSS, 100 logging and probed", "containerd-shim", ours, shims, 0.25, "MB")
    yield Row("monitor, PSS, 100 logging and probed", "conmon", ours, conmons, 2.0, "MB")


def _shims(place: Target) -> float:
    peer = docker(place)
    peer.start(20)
    found = statistics.mean(pss(pid) for pid in processes("containerd-shim"))
    peer.remove()
    return found


def _conmons(place: Target) -> float:
    peer = podman(place)
    peer.start(20)
    found = statistics.mean(pss(pid) for pid in processes("conmon"))
    peer.remove()
    return found


def logs() -> Iterator[Row]:
    """64 MB of lines through one container's log, until it has ended, against Docker's json-file."""
    with target() as place, warm_host(place) as host:
        client = ["docker", "-H", place.docker_host]
        ours, theirs = medians(_logging(host), _docker_logging(client), runs=3)
    yield Row(f"{LOGGED_MB} MB through a container's log", "docker json-file", ours, theirs, 1.0)


def _logging(host: Host) -> Callable[[], object]:
    def once() -> None:
        logging = {"max_size": 1 << 30}
        command = ["sh", "-c", _WRITE]
        host.apply({"name": "c", "command": command, "logging": logging})
        while host.state("c")["status"] != "exited":
            time.sleep(0.005)
        size = sum(path.stat().st_size for path in host.log("c").iterdir())
        if size < LOGGED_MB << 20:
            raise AssertionError(f"{size} bytes of log, {LOGGED_MB} MB were written")
        host.apply()

    return once


def _docker_logging(client: list[str]) -> Callable[[], object]:
    def once() -> None:
        run([*client, "run", "-d", "--name", "l1", "bench:1", "sh", "-c", _WRITE])
        run([*client, "wait", "l1"])
        run([*client, "rm", "-f", "l1"])

    return once


CASES: dict[str, Callable[[], Iterator[Row]]] = {
    "start": start,
    "hundred": hundred,
    "exec": enter,
    "memory-100": watch,
    "logs": logs,
}
