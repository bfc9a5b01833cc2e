"""Runs on the test machine: 500 containers come and go while everything around them is killed at random.

The order is the seed's: `HOSTCTL_CHAOS_SEED` repeats a run, `HOSTCTL_CHAOS_STARTS` makes it longer.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest
from hostctl_host.contract.report import HostReport, HostStatus

from tests.lab import Lab

from .host import DATA, IMAGE, RUN, Driven, push_busybox
from .storm import PROJECT, Storm, Wish, until, wishes

pytestmark = [pytest.mark.root, pytest.mark.lab]

STARTS = int(os.environ.get("HOSTCTL_CHAOS_STARTS", "500"))
SEED = int(os.environ.get("HOSTCTL_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
AT_ONCE = 60

# Whatever a container could leave on its host, one thing a line.
TRACES = rf"""
cut -d' ' -f5 /proc/self/mountinfo | sed 's/^/mount /'
find /sys/fs/cgroup -mindepth 2 -type d | grep hostctl | sed 's/^/cgroup /' || :
ip -o link | cut -d' ' -f2 | cut -d@ -f1 | sed 's/^/link /'
ip route | sed 's/^/route /'
nft list ruleset | sed 's/^/rule /'
cat /proc/sys/net/ipv4/ip_forward | sed 's/^/forwards /'
tail -n +2 /proc/net/unix | awk '$8 ~ "hostctl" {{print "socket " $8}}'
find {RUN} -mindepth 1 | sed 's/^/file /'
find {DATA} -mindepth 1 -not -path '{DATA}/agents/*' -not -path '{DATA}/store/*' | sed 's/^/file /'
ps -e -o args= | grep -v -e '^tini' -e '^sleep infinity' -e '^sshd' -e '^ps ' -e '^sh -ec' -e '^grep' -e '^sed' |
    sed 's/^/process /' || :
"""
# What hostctl keeps on a host that has nothing of it any more: locks, and folders that are empty.
KEPT = {
    *(f"file {RUN}/{name}" for name in ("containers", "networks", "lock", "zygote.lock")),
    *(f"file {RUN}/{name}" for name in ("zygote.error", "dns.lock", "dns.log", "firewall.lock")),
    *(f"file {DATA}/{name}" for name in ("agents", "store", "containers", "networks", "projects")),
}


@pytest.fixture(scope="module")
def driven() -> Iterator[Driven]:
    with Lab({"web1": {}}, with_images=False) as lab:
        yield Driven(lab, "web1", PROJECT, {IMAGE: push_busybox(lab.registry.url)})


def traces(driven: Driven) -> set[str]:
    return set(driven.host.sh(TRACES).splitlines()) - KEPT


def cgroup_names(driven: Driven) -> set[str]:
    """Containers that have a cgroup."""
    found = driven.host.sh("find /sys/fs/cgroup -path '*/hostctl/containers/*' -type d")
    return {path.rpartition("/")[2] for path in found.split()}


def ports(driven: Driven) -> int:
    """How many links are plugged into bridges."""
    return driven.host.sh("ip -o link show type veth").count(" master ")


def well(report: HostReport) -> None:
    assert report.status is HostStatus.OK, report.failures


def check_end(storm: Storm, wish: Wish, life: tuple[int, int], code: int) -> None:
    """The end of this life is recorded: its exit code, or that it was lost with the monitor."""
    found = storm.driven.state(wish.name)
    got = (found["exit_code"], found["lost"])
    wanted = (None, True) if life in storm.watched_no_more else (code, False)
    assert got == wanted, f"{wish}, life {life}: {found}"


def check_wishes(storm: Storm) -> None:
    """After a run that said ok, everything is as declared, and nothing else is there."""
    driven = storm.driven
    there = driven.processes()
    running = set()
    links = 0
    for wish in storm.wishes:
        found = driven.state(wish.name)
        folder = driven.host.data / "containers" / wish.name
        if wish.state == "absent":
            assert not found, found
            assert not folder.exists(), list(folder.iterdir())
        elif wish.state == "stopped":
            assert found.get("status", "created") in ("exited", "created"), found
        else:
            assert found["status"] == "running", found
            assert {found["pid"], found["monitor"]} <= there.keys(), found
            running.add(wish.name)
            links += len(wish.networks)
    # The kernel takes a namespace apart, and its links with it, in its own time.
    until(lambda: (cgroup_names(driven), ports(driven)) == (running, links), 5)
    pipes = sorted(path.name for path in (driven.run_dir / "containers").iterdir())
    assert set(pipes) <= {wish.name for wish in storm.wishes if wish.state != "absent"}


def crash(storm: Storm) -> None:
    """Programs end by themselves, some of them unseen."""
    running = [wish for wish in storm.wishes if wish.state == "started"]
    for wish in running:
        storm.ready(wish)
    chosen = storm.rng.sample(running, len(running) // 3)
    unseen = {wish.name for wish in chosen if storm.rng.random() < 0.3}
    hurt = []
    for wish in chosen:
        life = storm.life(wish)
        if wish.name in unseen:
            storm.kill_monitor_of(wish)
        hurt.append((wish, life, storm.hurt(wish)))
    for wish, life, code in hurt:
        if life in storm.watched_no_more:
            continue  # written down by whoever looks next
        until(lambda wish=wish, life=life: storm.life(wish) != life, 20)
        check_end(storm, wish, life, code)
        status = storm.driven.state(wish.name)["status"]
        assert status == "exited" if wish.policy == "no" else status != "exited", status
    for _ in range(storm.rng.randrange(4)):
        storm.kill_caretaker()


def stop_all(storm: Storm) -> None:
    lives = {}
    for wish in storm.wishes:
        if wish.state == "started":
            storm.ready(wish)
            lives[wish.name] = storm.life(wish)
        if wish.state != "absent":
            wish.state = "stopped"
    well(run(storm))
    for wish in storm.wishes:
        if wish.name in lives:
            check_end(storm, wish, lives[wish.name], wish.nature.stopped)


def run(storm: Storm) -> HostReport:
    with storm.driven.start() as agent:
        return agent.run(storm.document())


@pytest.mark.timeout(120 + STARTS)
def test_nothing_is_left_and_no_end_is_wrong(driven: Driven, record_property) -> None:
    print(f"HOSTCTL_CHAOS_SEED={SEED} repeats this run")  # pytest shows it where the test fails
    before = traces(driven)
    storm = Storm(driven, random.Random(SEED), wishes(random.Random(SEED), AT_ONCE))
    began = time.monotonic()
    well(run(storm))
    storm.take_note()
    while len(storm.lives) < STARTS:
        storm.change_wishes()
        if storm.rng.random() < 0.6:
            storm.disturbed_apply()
        well(run(storm))
        storm.take_note()
        check_wishes(storm)
        crash(storm)
        storm.take_note()
        print(f"{time.monotonic() - began:.0f} s: {len(storm.lives)} starts, killed {storm.kills}")
    well(run(storm))
    stop_all(storm)
    until(lambda: driven.zombies() == [], 3)
    well(driven.destroy())
    # The zygote leaves a host that runs nothing, within some seconds.
    deadline = time.monotonic() + 20
    while (left := traces(driven) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, sorted(left)
    assert before <= traces(driven)
    record_property("starts", len(storm.lives))
