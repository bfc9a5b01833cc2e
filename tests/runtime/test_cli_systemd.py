"""`--systemd-cgroup` on lab hosts that boot systemd: the container's cgroup is a scope, from its start to its end."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostctl_host
import pytest

from tests.lab import Lab
from tests.lab.host import LabHost
from tests.runtime import bundles
from tests.runtime.command import Command

pytestmark = [pytest.mark.root, pytest.mark.lab]

RUN = "PYTHONPATH=/var/lib/hostctl/oci python3 -m hostctl_host.runtime --systemd-cgroup"
PARENTS = "demo.slice/demo-deep.slice"
SCOPE = "box-a.scope"
LIMITS = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}


@pytest.fixture(scope="module", params=["bookworm", "bullseye"])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabHost]:
    folder = tmp_path_factory.mktemp("systemd")
    bundles.fill_root(folder / "rootfs")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "rootfs", "bundle/rootfs")
        package = Path(next(iter(hostctl_host.__path__))).resolve()
        archive.add(
            package,
            "hostctl_host",
            filter=lambda item: None if "__pycache__" in item.name else item,
        )
    options = {"init": "systemd", "suite": str(request.param)}
    with Lab({"sd": options}, with_images=False) as made:
        host = made["sd"]
        unpack = "mkdir -p /var/lib/hostctl/oci; tar -x -C /var/lib/hostctl/oci"
        host.run(["sh", "-ec", unpack], input=packed.getvalue())
        host.sh("systemctl is-system-running --wait || :")
        yield host


@pytest.fixture
def box(host: LabHost) -> Iterator[LabHost]:
    yield host
    host.sh(f"{RUN} delete --force a")
    _until(lambda: "loaded" not in _show(host, "LoadState"))
    assert host.sh(f"find /sys/fs/cgroup -name '{SCOPE}'") == ""
    assert host.sh("ls /run/hostctl-oci") == ""


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _show(host: LabHost, *names: str) -> str:
    words = [f"--property={name}" for name in names]
    return host.run(["systemctl", "show", *words, SCOPE]).stdout


def _bundle(host: LabHost, *command: str, **changes: Any) -> None:
    config = bundles.config(*command)
    config["linux"].update({"cgroupsPath": "demo-deep.slice:box:a", "resources": LIMITS})
    config.update(changes)
    host.run(["tee", "/var/lib/hostctl/oci/bundle/config.json"], input=json.dumps(config))


def _run(host: LabHost, verb: str) -> str:
    detached = f"{RUN} {verb} -b /var/lib/hostctl/oci/bundle a </dev/null >/tmp/out 2>&1"
    return host.sh(f"{detached} || {{ cat /tmp/out; false; }}")


def test_a_scope_with_its_limits_from_create_to_delete(box: LabHost) -> None:
    _bundle(
        box, "sleep", "1000", annotations={"org.systemd.property.TimeoutStopUSec": "uint64 7000000"}
    )
    _run(box, "create")
    assert json.loads(box.sh(f"{RUN} state a"))["status"] == "created"
    box.sh(f"{RUN} start a")
    pid = json.loads(box.sh(f"{RUN} state a"))["pid"]
    shown = _show(
        box, "ActiveState", "Slice", "Delegate", "MemoryMax", "TasksMax", "TimeoutStopUSec"
    )
    wanted = {
        *("ActiveState=active", "Slice=demo-deep.slice", "Delegate=yes", f"MemoryMax={64 << 20}"),
        *("TasksMax=50", "TimeoutStopUSec=7s"),
    }
    assert set(shown.split()) == wanted
    places = {line.split(":", 2)[2] for line in box.sh(f"cat /proc/{pid}/cgroup").splitlines()}
    assert len(places) == 1 and places.pop().endswith(f"/{PARENTS}/{SCOPE}")
    box.sh("systemctl daemon-reload")
    limit = "find /sys/fs/cgroup -path '*{}*' -name {} -exec cat {{}} + | sort -u"
    assert box.sh(limit.format(SCOPE, "pids.max")) == "50\n"
    box.sh(f"{RUN} update --pids-limit 40 a; systemctl daemon-reload")
    assert box.sh(limit.format(SCOPE, "pids.max")) == "40\n"
    assert "TasksMax=40" in _show(box, "TasksMax")
    assert box.sh(f"{RUN} exec a cat /proc/1/comm") == "sleep\n"
    box.sh(f"{RUN} kill a KILL")
    _until(lambda: json.loads(box.sh(f"{RUN} state a"))["status"] == "stopped")


def test_run_and_stop_by_systemctl(box: LabHost) -> None:
    _bundle(box, "sh", "-c", "cat /proc/self/cgroup; exit 3")
    done = box.run(["sh", "-c", f"{RUN} run -b /var/lib/hostctl/oci/bundle a"], check=False)
    assert done.returncode == 3, done.stderr
    assert {line.split(":", 2)[2] for line in done.stdout.splitlines()} == {"/"}
    box.sh(f"{RUN} delete --force a")
    _bundle(box, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    _run(box, "run -d")
    box.sh(f"systemctl stop {SCOPE}")
    assert json.loads(box.sh(f"{RUN} state a"))["status"] == "stopped"


def test_a_create_that_fails_leaves_no_scope(box: LabHost) -> None:
    _bundle(box, "/no/such")
    assert box.run(
        ["sh", "-c", f"{RUN} run -b /var/lib/hostctl/oci/bundle a"], check=False
    ).returncode
    assert "LoadState=loaded" not in _show(box, "LoadState")


@pytest.mark.parametrize(
    "path", ["/plain/path", "a:b:c", "demo.slice:box:", "demo.slice:box:x.slice"]
)
def test_paths_that_are_none_of_systemd(box: LabHost, path: str) -> None:
    _bundle(box, "true")
    box.sh(f"sed -i 's#demo-deep.slice:box:a#{path}#' /var/lib/hostctl/oci/bundle/config.json")
    done = box.run(["sh", "-c", f"{RUN} create -b /var/lib/hostctl/oci/bundle a"], check=False)
    assert done.returncode == 1
    assert "slice" in done.stderr.lower()


def test_where_no_systemd_runs_it_says_so(oci: Command) -> None:
    bundle = oci.bundle("a", "true")
    said = oci("--systemd-cgroup", "create", "-b", str(bundle.folder), "a", code=1)
    assert "--systemd-cgroup needs systemd, and none runs here" in said
    assert "cgroupfs" in said
