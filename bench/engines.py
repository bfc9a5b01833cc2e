"""Runs on the developer's machine: Docker and Podman, which start and remove many containers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from resource import RLIMIT_NOFILE, getrlimit

from .measure import run, seconds
from .peers import CACHE, WORK, Target, inside, program

CLIENTS = 8
REST = 4.0
"""Seconds in which the kernel takes apart what was just removed."""


class Engine:
    """A client of another engine, run in the target's network namespace: `command` with further words."""

    def __init__(
        self,
        command: list[str],
        image: str,
        run: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
    ) -> None:
        self.command = inside(command)
        self._run = [*self.command, "run", "-d", *run]
        self._remove = [*self.command, "rm", "-f", *remove]
        self._image = image

    def start(self, count: int) -> float:
        """Seconds that so many clients, eight at once, take to run a container each."""

        def one(number: int) -> None:
            run([*self._run, "--name", f"b{number}", self._image])

        def all_of_them() -> None:
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(one, range(count)))

        return seconds(all_of_them)

    def remove(self) -> float:
        """Seconds that one client takes to remove all there are."""
        names = run([*self.command, "ps", "-aq"]).split()
        return seconds(lambda: run([*self._remove, *names])) if names else 0.0


def docker(place: Target) -> Engine:
    """The target's dockerd, which has the bench's image."""
    return Engine(["docker", "-H", place.docker_host], "bench:1")


def podman(place: Target) -> Engine:
    """One with folders of its own, installed where it is missing."""
    if not program("podman"):
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "podman"])
    root = ["--root", str(CACHE / "podman"), "--runroot", str(WORK / "podman")]
    # runc, because crun refuses a hybrid host; its own limits would take a capability.
    command = [
        "podman",
        *root,
        "--runtime",
        "runc",
        "--cgroup-manager",
        "cgroupfs",
        "--events-backend",
        "none",
    ]
    run(inside([*command, "load", "-q", "-i", str(place.image)]))
    files = getrlimit(RLIMIT_NOFILE)[1]
    limits = ("--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=4096:4096")
    return Engine(command, "localhost/bench:1", limits, ("-t", "0"))
