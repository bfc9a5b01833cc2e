"""Runs on the test machine: containers with users of their own on hosts that can map owners, and one that cannot.

The tests of this file are the steps of one story: each takes up where the one before it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import state
from tests.e2e.command import Hostctl
from tests.lab import Lab, LabHost

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLAYBOOK = str(Path(__file__).with_name("userns.yml"))
HOSTS = ("maps", "old", "refuses")

# A mount whose owners are mapped already (each to itself) refuses to be mapped again, as a file system would
# that cannot do it at all.
REFUSE = """
mkdir -p -m 0700 /var/lib/hostctl
python3 - <<'END'
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    done = libc.syscall(*arguments)
    assert done >= 0, os.strerror(ctypes.get_errno())
    return done
here, there = os.pipe()
pid = os.fork()
if pid == 0:
    assert libc.unshare(0x10000000) == 0
    os.write(there, b'x')
    os.read(os.open('/dev/zero', os.O_RDONLY), 1)
    import time; time.sleep(5); os._exit(0)
os.read(here, 1)
for name in ('uid_map', 'gid_map'):
    with open(f'/proc/{pid}/{name}', 'w') as stream:
        stream.write('0 0 4294967295')
users = os.open(f'/proc/{pid}/ns/user', os.O_RDONLY)
tree = call(428, -100, b'/var/lib/hostctl', 1)
call(442, tree, b'', 0x1000, struct.pack('=4Q', 0x100000, 0, 0, users), 32)
call(429, tree, b'', -100, b'/var/lib/hostctl', 4)
os.kill(pid, 9); os.waitpid(pid, 0)
END
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Lab]:
    hosts = {
        "maps": {},
        "old": {"suite": "bullseye"},
        "refuses": {"suite": "bullseye", "user": "ops"},
    }
    with Lab(hosts) as made:
        made["refuses"].sh(REFUSE)
        yield made


@pytest.fixture(scope="module")
def before(own: Lab) -> dict[str, Any]:
    return {name: (state.tree(own[name]), state.kernel(own[name])) for name in HOSTS}


def pid(host: LabHost, name: str) -> int:
    return int(json.loads(host.sh(f"cat /run/hostctl/containers/{name}/state.json"))["pid"])


def users(host: LabHost, name: str) -> tuple[int, int, int]:
    """The container's line of uid_map, which is that of gid_map too."""
    lines = host.sh(f"cd /proc/{pid(host, name)}; cat uid_map gid_map").split()
    assert lines[:3] == lines[3:]
    inside, outside, size = map(int, lines[:3])
    return inside, outside, size


def test_it_runs(hostctl: Hostctl, own: Lab, before: dict[str, Any]) -> None:
    assert before
    planned = hostctl("plan", "--json", PLAYBOOK)
    assert planned.code == 2, planned.out + planned.err
    done = hostctl("apply", "--yes", "--json", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    for name in HOSTS:
        assert "Welcome to nginx" in own[name].sh("curl -sf -m 5 http://127.0.0.1:8080/")
    ping = hostctl("exec", "mine-redis-1", "redis-cli", "set", "a", "b")
    assert (ping.code, ping.out.count("OK")) == (0, len(HOSTS))


def test_the_second_apply_changes_nothing(hostctl: Hostctl) -> None:
    planned = hostctl("plan", PLAYBOOK)
    assert planned.code == 0, planned.out


def test_their_users_are_others_than_the_hosts(own: Lab) -> None:
    for name in HOSTS:
        host = own[name]
        first = users(host, "mine-redis-1")[1]
        assert users(host, "mine-redis-1") == users(host, "mine-web-1") == (0, first, 65536)
        other = users(host, "other-redis-1")[1]
        assert abs(first - other) >= 65536
        for container in ("mine-redis-1", "mine-web-1"):
            status = host.sh(f"grep -E '^(Uid|Gid):' /proc/{pid(host, container)}/status").split()
            ids = {int(word) for word in status if word.isdigit()}
            assert all(first <= one < first + 65536 for one in ids), status


def test_files_on_disk(hostctl: Hostctl, own: Lab) -> None:
    assert hostctl("exec", "mine-redis-1", "redis-cli", "save").code == 0
    for name in HOSTS:
        host = own[name]
        inside = host.sh(f"awk '/^Uid/ {{print $2}}' /proc/{pid(host, 'mine-redis-1')}/status")
        first = users(host, "mine-redis-1")[1]
        owner = int(host.sh("stat -c %u /var/lib/hostctl/volumes/mine_data/_data/dump.rdb"))
        shifted = name == "refuses"
        assert owner == int(inside) - (0 if shifted else first), name
        copies = host.sh("ls /var/lib/hostctl/store/shifted 2>/dev/null || true").split()
        assert (str(first) in copies) == shifted
        found = hostctl("exec", "-l", name, "mine-redis-1", "stat", "-c", "%U %u:%g:%a", "/word")
        assert found.out.strip().endswith("100:100:440"), found.out + found.err
        assert f"{first}" not in host.sh("find /etc /srv /root -uid +1000000000")


def test_changing_the_mode_replaces(hostctl: Hostctl, own: Lab) -> None:
    words = ("-e", "mode=host", PLAYBOOK)
    planned = hostctl("plan", "--json", *words)
    assert planned.code == 2
    for changes in planned.changed().values():
        assert set(changes) == {"replace container.mine-redis-1", "replace container.mine-web-1"}
    assert "userns_mode" in hostctl("plan", *words).out
    done = hostctl("apply", "--yes", *words)
    assert done.code == 0, done.out + done.err
    for name in HOSTS:
        assert users(own[name], "mine-redis-1") == (0, 0, 4294967295)
    got = hostctl("exec", "mine-redis-1", "redis-cli", "get", "a")
    assert got.out.count("b\n") == len(HOSTS), got.out + got.err
    done = hostctl("apply", "--yes", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    got = hostctl("exec", "mine-redis-1", "redis-cli", "get", "a")
    assert got.out.count("b\n") == len(HOSTS), got.out + got.err


def test_destroy_leaves_nothing(hostctl: Hostctl, own: Lab, before: dict[str, Any]) -> None:
    done = hostctl("destroy", "--yes", "--volumes", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    for name in HOSTS:
        assert (state.tree(own[name]), state.kernel(own[name])) == before[name]
        assert (
            own[name].sh("cd /var/lib/hostctl; ls -A ids; ls -d store/shifted 2>/dev/null || true")
            == ""
        )
