"""Runs on the test machine: kill -9 at many points, and two runs at once; the next apply puts it right."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.e2e import state
from tests.e2e.command import Hostctl
from tests.lab import Lab, LabHost

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLAYBOOK = str(Path(__file__).with_name("crash.yml"))
CONTAINERS = ["crash-a-1", "crash-b-1", "crash-c-1"]


@pytest.fixture(scope="module")
def host(own: Lab) -> LabHost:
    return own["web1"]


def kill_agent(host: LabHost) -> int:
    """Kill every agent of a run on the host; how many there were."""
    script = (
        "pgrep -f '[s]tart.py apply' > /tmp/agents; kill -9 $(cat /tmp/agents); wc -l < /tmp/agents"
    )
    return int(host.run(["sh", "-c", script]).stdout or 0)


def agent_begins(host: LabHost) -> float:
    """Wait for the agent of a run; the moment at which it was seen."""
    deadline = time.monotonic() + 10
    while host.run(["pgrep", "-f", "[s]tart.py apply"], check=False).returncode != 0:
        assert time.monotonic() < deadline, "no agent came"
    return time.monotonic()


def footprint(host: LabHost) -> dict[str, object]:
    """What a converged host has, names that differ from run to run left out."""
    kernel = state.kernel(host)
    names = host.sh("cd /var/lib/hostctl; find . -not -path './store/*' -not -path './agents/*'")
    odd = (".tmp", ".new", ".part", "/journal.json", "tmp")
    return {
        "links": len(kernel["links"]),
        "mounts": kernel["mounts"],
        "cgroups": [group for group in kernel["cgroups"] if "crash" in group],
        "rules": sorted(line.strip() for line in kernel["rules"] if "dnat" not in line),
        # Monitors and inits; zygotes, whose parent is the host's init, own nothing.
        "monitors": host.sh("ps -e -o ppid=,args= | grep '[m]onitor.zygote' | grep -vc '^ *1 '"),
        "left over": [name for name in names.split() if name.endswith(odd)],
    }


def running(hostctl: Hostctl) -> dict[str, int]:
    """Container -> pid of those that run."""
    rows = hostctl("ps", "--json").json["hosts"]["web1"]
    return {row["name"]: row["pid"] for row in rows if row["state"] == "running"}


@pytest.mark.timeout(300)
def test_a_killed_agent_leaves_nothing_that_the_next_apply_does_not_put_right(
    hostctl: Hostctl, host: LabHost
) -> None:
    before = state.kernel(host)
    # Once for the agent to be there, once for how long it then takes.
    assert hostctl("apply", "--yes", PLAYBOOK).code == 0
    assert hostctl("destroy", "--yes", "--volumes", PLAYBOOK).code == 0
    run = hostctl.start("apply", "--yes", PLAYBOOK)
    begin = agent_begins(host)
    run.communicate(timeout=60)
    whole = time.monotonic() - begin
    assert run.returncode == 0
    good = footprint(host)
    assert good["left over"] == []
    assert hostctl("destroy", "--yes", "--volumes", PLAYBOOK).code == 0

    points, killed = 8, 0
    for point in range(points):
        run = hostctl.start("apply", "--yes", PLAYBOOK)
        agent_begins(host)
        time.sleep(whole * point / points)
        killed += kill_agent(host)
        run.communicate(timeout=60)
        done = hostctl("apply", "--yes", PLAYBOOK)
        assert done.code == 0, f"after a kill at point {point}: {done.out}{done.err}"
        assert hostctl("plan", PLAYBOOK).code == 0
        assert sorted(running(hostctl)) == CONTAINERS
        deadline = time.monotonic() + 3  # what ends by itself may take a moment
        while (now := footprint(host)) != good and time.monotonic() < deadline:
            time.sleep(0.1)
        assert now == good, f"after a kill at point {point}: {host.sh('ps -ef')}"
        assert hostctl("destroy", "--yes", "--volumes", PLAYBOOK).code == 0
        after = state.kernel(host)
        for name in ("links", "addresses", "routes", "mounts", "rules", "forwarding"):
            assert after[name] == before[name], f"{name} after a kill at point {point}"
    assert killed >= points / 2, "the runs were over before they were killed"


def test_a_container_outlives_its_monitor_and_is_adopted(hostctl: Hostctl, host: LabHost) -> None:
    assert hostctl("apply", "--yes", PLAYBOOK).code == 0
    pids = running(hostctl)
    # Every monitor and their zygote; a container's own init has the same command line.
    host.sh("cat /sys/fs/cgroup/*/hostctl/monitors/cgroup.procs | sort -u | xargs kill -9 || :")
    assert running(hostctl) == pids
    done = hostctl("apply", "--yes", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    assert running(hostctl) == pids
    # The adopter restarts what its restart policy says.
    host.sh(f"kill -9 {pids['crash-b-1']}")
    deadline = time.monotonic() + 10
    while "crash-b-1" not in (now := running(hostctl)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert now["crash-b-1"] != pids["crash-b-1"]
    assert hostctl("logs", "--tail", "2", "crash-b-1").out.count("one") >= 2


def test_of_two_runs_one_waits_or_says_who_holds_the_lock(hostctl: Hostctl, host: LabHost) -> None:
    first = hostctl.start("apply", "--yes", "-e", "level=two pause=3", PLAYBOOK)
    deadline = time.monotonic() + 10
    while not host.run(["pgrep", "-x", "-f", "sleep 3"], check=False).stdout:
        assert time.monotonic() < deadline
    refused = hostctl("apply", "--yes", "--json", "-e", "level=three", PLAYBOOK)
    waited = hostctl("apply", "--yes", "--lock-wait", "60", "-e", "level=four", PLAYBOOK)
    first_out, first_err = first.communicate(timeout=60)
    assert (first.returncode, waited.code) == (0, 0), first_out + first_err + waited.err
    told = refused.json["hosts"]["web1"]
    assert told["status"] == "locked"
    assert "apply" in json.dumps(told["failures"])
    assert "three" not in hostctl("exec", "crash-a-1", "printenv", "LEVEL").out
    assert host.sh("cat /srv/crash/level") == "four\n"


def test_a_container_comes_back_after_the_host_was_down(hostctl: Hostctl, host: LabHost) -> None:
    host.stop()
    assert hostctl("plan", PLAYBOOK).code == 1
    host.start()
    done = hostctl("apply", "--yes", "-e", "level=four", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    assert sorted(running(hostctl)) == CONTAINERS
    assert hostctl("destroy", "--yes", "--volumes", PLAYBOOK).code == 0
