"""Runs on the test machine: a database, a store and a worker that misbehaves, under limits: what they wrote is kept.

`HOSTCTL_LONG=1` goes on writing and killing for minutes.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hostctl_host.contract.report import HostReport, HostStatus

from tests.chaos.host import IMAGE, Driven, push_busybox
from tests.lab import Lab, cgroups

from . import images

pytestmark = [pytest.mark.root, pytest.mark.lab]

KILLS = 60 if os.environ.get("HOSTCTL_LONG") else 2


class Service:
    """One container with a volume `data`, and what is asked of it."""

    def __init__(self, driven: Driven, image: str, **spec: Any) -> None:
        self.driven = driven
        self.name = f"{driven.project}-{image}-1"
        self.spec = {"name": self.name, "image": image, "network_mode": "none", **spec}
        self.state = "started"

    def apply(self, **changes: Any) -> HostReport:
        """Have it as declared."""
        self.spec |= changes
        volume = f"{self.driven.project}_data"
        needs = [*(image["id"] for image in self.driven.images)]
        resources = [{"id": f"container.{self.name}", "kind": "container", "spec": self.spec}]
        if self.spec.get("volumes"):
            made = {"id": f"volume.{volume}", "kind": "volume", "spec": {"name": volume}}
            resources.insert(0, made)
            needs.append(made["id"])
        resources[-1]["needs"] = needs
        return self.driven.apply(*resources)

    def have(self, **changes: Any) -> dict[str, Any]:
        """The same, which must succeed: the container's state then."""
        report = self.apply(**changes)
        assert report.status is HostStatus.OK, report.failures
        return self.now

    @property
    def now(self) -> dict[str, Any]:
        return self.driven.state(self.name)

    def execute(self, *argv: str) -> str:
        code, said = self.driven.execute(self.name, *argv)
        assert code == 0, said
        return said

    def kill(self, what: str) -> None:
        """SIGKILL to its `monitor` or its first process (`pid`)."""
        os.kill(self.driven.machine_pid(self.now[what]), signal.SIGKILL)

    def limit(self, *files: str) -> int:
        """A number of its cgroup: the first of these files (of version 1, of version 2) that there is."""
        inner = f"hostctl-lab/{self.driven.host.cgroup}/hostctl/containers/{self.name}"
        paths = [h.target / inner / file for file in files for h in cgroups.hierarchies()]
        return int(next(path for path in paths if path.exists()).read_text())


def data(driven: Driven) -> list[dict[str, str]]:
    return [{"type": "volume", "source": f"{driven.project}_data", "target": "/data"}]


@contextmanager
def host(lab: Lab, project: str, refs: dict[str, str]) -> Iterator[Driven]:
    """The host with a project, which leaves nothing there."""
    driven = Driven(lab, "web1", project, refs)
    try:
        yield driven
    finally:
        assert driven.destroy().status is HostStatus.OK
    assert driven.zombies() == []
    folders = "/run/hostctl/containers /var/lib/hostctl/containers /var/lib/hostctl/volumes"
    left = f"find /sys/fs/cgroup -path '*/hostctl/containers/*'; find {folders} -mindepth 1 || :"
    assert driven.host.sh(left) == ""


@contextmanager
def written(write: Callable[[int], None]) -> Iterator[list[int]]:
    """Numbers, one after the other, of which `write` has returned."""
    done: list[int] = []
    over = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        number = 0
        try:
            while not over.is_set():
                number += 1
                write(number)
                done.append(number)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()
    assert not failures, failures


def wait(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def adopted(service: Service, pid: int) -> bool:
    now = service.have()
    return bool(now["pid"] == pid and service.driven.machine_pid(now["monitor"]))


@pytest.mark.timeout(900)
def test_postgres(services_lab: Lab) -> None:
    refs = {"postgres": images.push(services_lab.registry.url, "postgres")}
    with host(services_lab, "pg", refs) as driven:
        service = Service(
            driven,
            "postgres",
            mem_limit=256 << 20,
            pids_limit=64,
            shm_size=64 << 20,
            stop_signal="TERM",
            stop_grace_period=30.0,
            volumes=data(driven),
        )
        service.have()
        wait(lambda: driven.execute(service.name, "pg_isready")[0] == 0)
        sql = ("psql", "-qtAX", "-v", "ON_ERROR_STOP=1", "-c")
        service.execute(*sql, "create table t (n int primary key, pad text)")

        def insert(number: int) -> None:
            service.execute(*sql, f"insert into t values ({number}, repeat('x', 2000))")

        # Its monitor is killed while it writes; the next run gives it another, and it has not noticed.
        with written(insert) as done:
            for _ in range(KILLS):
                have = len(done)
                wait(lambda have=have: len(done) > have + 2)
                pid = service.now["pid"]
                service.kill("monitor")
                have = len(done)
                wait(lambda have=have: len(done) > have + 1)
                assert adopted(service, pid)
        assert service.execute(*sql, "select count(*) from t").strip() == str(len(done))

        # The program itself, in the midst: what it has said to be written is there when it is back. Its end
        # is lost, because its monitor is not its parent; after that it has one that knows.
        for lost in (True, False):
            service.kill("pid")
            wait(lambda: service.now["status"] == "exited")
            assert service.now["exit_code"] == (None if lost else 137)
            assert service.now["lost"] is lost
            service.have()
            wait(lambda: driven.execute(service.name, "pg_isready")[0] == 0)
            assert service.execute(*sql, "select count(*) from t").strip() == str(len(done))
        assert driven.log(service.name).count("automatic recovery in progress") == 2

        # TERM: it ends in its own time, with 0, and begins again without a recovery.
        stopped = service.have(state="stopped")
        assert (stopped["exit_code"], stopped["lost"], stopped["oom"]) == (0, False, False)
        assert "database system is shut down" in driven.log(service.name)
        service.have(state="started")
        wait(lambda: driven.execute(service.name, "pg_isready")[0] == 0)
        assert service.execute(*sql, "select count(*) from t").strip() == str(len(done))
        log = driven.log(service.name)
        assert log.count("automatic recovery in progress") == 2
        assert re.search(r"database system was shut down at", log)
        assert service.limit("memory.limit_in_bytes", "memory.max") == 256 << 20
        assert service.limit("pids.max") == 64


@pytest.mark.timeout(900)
def test_redis(services_lab: Lab) -> None:
    refs = {"redis": images.push(services_lab.registry.url, "redis")}
    with host(services_lab, "store", refs) as driven:
        service = Service(
            driven,
            "redis",
            mem_limit=64 << 20,
            pids_limit=16,
            restart="unless-stopped",
            volumes=data(driven),
        )
        service.have()
        wait(lambda: "PONG" in driven.execute(service.name, "redis-cli", "ping")[1])
        assert service.execute("id", "-un").strip() == "redis"

        def add(number: int) -> None:
            assert service.execute("redis-cli", "rpush", "list", str(number)).strip().isdigit()

        with written(add) as done:
            for _ in range(KILLS):
                have = len(done)
                wait(lambda have=have: len(done) > have + 2)
                pid = service.now["pid"]
                service.kill("monitor")
                have = len(done)
                wait(lambda have=have: len(done) > have + 1)
                assert adopted(service, pid)
        # Killed, it is started again by its monitor, which an adopter is too.
        pid = service.now["pid"]
        service.kill("pid")
        wait(lambda: service.now["pid"] not in (0, pid))
        wait(lambda: "PONG" in driven.execute(service.name, "redis-cli", "ping")[1])
        assert service.execute("redis-cli", "llen", "list").strip() == str(len(done))
        stopped = service.have(state="stopped")
        assert (stopped["exit_code"], stopped["lost"]) == (0, False)
        service.have(state="started")
        wait(lambda: "PONG" in driven.execute(service.name, "redis-cli", "ping")[1])
        kept = service.execute("redis-cli", "lrange", "list", "0", "-1").split()
        assert kept == [str(number) for number in done]


def test_a_worker_that_forks_stays_within_its_processes(services_lab: Lab) -> None:
    refs = {IMAGE: push_busybox(services_lab.registry.url)}
    # A child forks until it may not, and gives up; the first process takes the place that this leaves.
    bomb = "trap 'exit 5' TERM; ( while :; do sleep 100000 & done ); sleep 100000 & wait"
    with host(services_lab, "bomb", refs) as driven:
        service = Service(
            driven, IMAGE, command=["sh", "-c", bomb], pids_limit=40, stop_grace_period=3.0
        )
        service.have()
        wait(lambda: "can't fork" in driven.log(service.name))
        wait(lambda: service.limit("pids.current") == 40)
        assert service.now["status"] == "running"
        # One more is not born either, and that is said.
        code, said = driven.execute(service.name, "true")
        assert code != 0
        assert "Resource temporarily unavailable" in said, said
        stopped = service.have(state="stopped")
        assert (stopped["exit_code"], stopped["oom"]) == (5, False)


def test_a_worker_that_eats_is_ended_and_that_is_recorded(services_lab: Lab) -> None:
    refs = {IMAGE: push_busybox(services_lab.registry.url)}
    limits: dict[str, Any] = {"mem_limit": 16 << 20, "memswap_limit": 16 << 20, "pids_limit": 40}
    eat = "sleep 0.5; v=xxxxxxxxxxxxxxxx; while :; do v=$v$v; done"
    with host(services_lab, "eater", refs) as driven:
        # The first process itself: the kernel kills it, and the report says why.
        service = Service(driven, IMAGE, command=["sh", "-c", eat], **limits)
        service.apply()
        wait(lambda: service.now["status"] == "exited")
        assert (service.now["exit_code"], service.now["oom"]) == (137, True)
        report = service.apply(command=["sh", "-c", eat.replace("sleep 0.5; ", "")])
        assert report.status is HostStatus.FAILED
        assert "out of memory" in report.failures[0].message
        # Children of a worker that goes on without them.
        many = f"for i in 1 2 3 4 5 6; do ( {eat} ) & done; wait; exit 9"
        service.apply(command=["sh", "-c", many])
        wait(lambda: service.now["status"] == "exited")
        assert (service.now["exit_code"], service.now["oom"]) == (9, True)
        # One that behaves is not said to have.
        service.apply(command=["sh", "-c", "sleep 0.5; exit 4"])
        wait(lambda: service.now["status"] == "exited")
        assert (service.now["exit_code"], service.now["oom"]) == (4, False)


def test_systemd_as_the_first_process(services_lab: Lab) -> None:
    """On version 1 of cgroups beside version 2, and on version 2: it manages the container's own subtree."""
    refs = {"systemd": images.push(services_lab.registry.url, "systemd")}
    with host(services_lab, "init", refs) as driven:
        state = [{"type": "volume", "source": "init_data", "target": "/state"}]
        service = Service(
            driven,
            "systemd",
            privileged=True,
            tmpfs=["/run", "/run/lock", "/tmp"],
            stop_signal="SIGRTMIN+3",
            restart="unless-stopped",
            stop_grace_period=30.0,
            volumes=state,
        )
        service.have()
        running = ("systemctl", "is-system-running", "--wait")

        def up() -> bool:
            return driven.execute(service.name, *running)[1].strip() == "running"

        wait(up)
        assert service.execute("systemctl", "is-active", "ticker").strip() == "active"
        groups = service.execute("sh", "-c", "cat /proc/$(systemctl show -P MainPID ticker)/cgroup")
        assert "/system.slice/ticker.service" in groups
        # A reboot is its end, by the signal that the kernel has for that, and its restart.
        before = service.now["pid"]
        driven.execute(service.name, "systemctl", "reboot")
        wait(lambda: service.now["pid"] not in (0, before))
        assert service.now["exit_code"] == 128 + signal.SIGHUP
        wait(up)
        # Asked to stop, it stops its units in order and halts, for which the kernel has another.
        kept = driven.host.data / "volumes" / "init_data" / "_data" / "ticker"
        kept.unlink()
        stopped = service.have(state="stopped")
        assert (stopped["exit_code"], stopped["lost"]) == (128 + signal.SIGINT, False)
        assert kept.read_text() == "stopped\n"
