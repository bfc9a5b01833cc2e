"""Kill -9 at any moment of a pull: the store stays valid and the next pull cleans up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostctl_host import image
from hostctl_host.agent.host import Host
from hostctl_host.store.store import Store

from tests.store.layers import TestImage, member, sha256, tar
from tests.store.registries import RunningRegistry
from tests.store.test_pull import run

pytestmark = pytest.mark.root

_PULL = """
import sys
from hostctl_host import image
from hostctl_host.agent.host import Host, Paths
spec = image.Spec(name=sys.argv[2])
host = Host(paths=Paths(sys.argv[1], sys.argv[1]))
observed = image.observe(spec, host)
print("ready", flush=True)
image.apply(spec, observed, image.diff(spec, observed), host)
print(image.diff(spec, image.observe(spec, host)))
"""


def start(python: str, host: Host, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-c", _PULL, host.paths.data, name],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": "build/editable", "PATH": os.environ["PATH"]},
    )


def assert_valid(store: Store) -> None:
    """All that has a name is whole."""
    for image_ in store.images():
        for layer in store.lower(image_.image_id):
            assert os.path.isdir(os.path.join(store.links_dir, layer))
    for path in Path(store.root, "blobs/sha256").iterdir():
        if not path.name.startswith("."):
            assert sha256(path.read_bytes())[7:] == path.name
    for record in Path(store.root, "layers").glob("*.json"):
        assert (record.parent / record.stem).is_dir()
        assert os.readlink(f"{store.links_dir}/{json.loads(record.read_text())['short']}")


def test_kill_at_many_points(registry: RunningRegistry, host: Host, store: Store) -> None:
    noise = random.Random(7)
    layers = [
        tar(*(member(f"l{n}/f{i}", noise.randbytes(20_000)) for i in range(60))) for n in range(3)
    ]
    made = TestImage(layers)
    name = registry.push("crash", "1", made)
    killed = 0
    for attempt in range(12):
        process = start(sys.executable, host, name)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(attempt * 0.008)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += process.returncode == -signal.SIGKILL
        if os.path.exists(os.path.join(store.root, "oci-layout")):
            assert_valid(store)
        if store.resolve(name):
            store.remove(name)
    assert killed > 3
    run(image.Spec(name=name), host)
    assert store.resolve(name) == made.image_id
    assert len(store.lower(made.image_id)) == 3
    assert_valid(store)
    assert os.listdir(os.path.join(store.root, "tmp")) == []
    assert [path for path in Path(store.root).rglob("*") if ".hostctl-" in path.name] == []
    for n, short in enumerate(reversed(store.lower(made.image_id))):
        assert len(os.listdir(os.path.join(store.links_dir, short, f"l{n}"))) == 60


def test_half_written_files_are_removed(
    registry: RunningRegistry, host: Host, store: Store
) -> None:
    made = TestImage([tar(member("f", b"1"))])
    name = registry.push("halves", "1", made)
    run(image.Spec(name=name), host)
    halves = [
        Path(store.root, folder, ".x.hostctl-1234") for folder in ("", "blobs/sha256", "layers")
    ]
    for path in halves:
        path.write_bytes(b"half")
    other = registry.push("halves", "2", TestImage([tar(member("g", b"2"))]))
    run(image.Spec(name=other), host)
    assert not any(path.exists() for path in halves)


def test_leftovers_of_the_living_stay(registry: RunningRegistry, host: Host, store: Store) -> None:
    from hostctl_host.store.staging import scratch

    with scratch(store) as mine:
        dead = os.path.join(store.root, "tmp", "dead")
        os.makedirs(os.path.join(dead, "root", "deep"))
        made = TestImage([tar(member("f", b"1"))])
        run(image.Spec(name=registry.push("sweep", "1", made)), host)
        assert os.path.isdir(mine)
        assert not os.path.exists(dead)
    assert not os.path.exists(mine)


@pytest.mark.parametrize("version", ["3.9.18", "3.13.0"])
def test_on_other_pythons(
    registry: RunningRegistry, host: Host, store: Store, version: str
) -> None:
    python = os.path.expanduser(f"~/.pyenv/versions/{version}/bin/python3")
    made = TestImage(
        [tar(member("f", b"1" * 100_000)), tar(member("g", b"2"), member(".wh.h", b""))]
    )
    name = registry.push("pythons", "1", made)
    process = start(python, host, name)
    out, _ = process.communicate(timeout=30)
    assert out == "ready\n[]\n"
    assert store.resolve(name) == made.image_id


_BOOTSTRAP = """
import sys
from hostctl_host import image
from hostctl_host.agent.host import Host, Paths
spec = image.Spec(name="base", bootstrap=image.Bootstrap())
host = Host(paths=Paths(sys.argv[1], sys.argv[1]))
image.apply(spec, image.observe(spec, host), [], host)
"""


def processes_with(text: str) -> list[str]:
    """Command lines of what runs and mentions the text."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in line and pid != str(os.getpid()):
            found.append(line)
    return found


def test_a_killed_bootstrap_leaves_no_process_and_no_mount(
    registry: RunningRegistry, host: Host, store: Store
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _BOOTSTRAP, host.paths.data],
        env={"PYTHONPATH": "build/editable", "PATH": os.environ["PATH"]},
    )
    place = os.path.join(store.root, "tmp")
    deadline = time.monotonic() + 20
    # Wait until something has been unpacked below the temporary root.
    while not list(Path(host.paths.data).glob("store/tmp/*/mmdebstrap.*/var")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert processes_with(place)
    process.kill()
    process.wait()
    while processes_with(place) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_with(place) == []
    assert place not in Path("/proc/self/mountinfo").read_text()
    made = TestImage([tar(member("f", b"1"))])
    run(image.Spec(name=registry.push("after", "1", made)), host)
    assert os.listdir(place) == []
