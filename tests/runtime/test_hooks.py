"""Hooks: when each kind runs, where, with what, and what its failure does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import client
from hostctl_host.runtime import container, hooks

from tests.runtime.bundles import Bundle, mountinfo
from tests.runtime.workshop import Workshop

pytestmark = pytest.mark.root
SCRIPT = """#!/bin/sh
echo "$1 $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/net) $PWD $WORD $(cat)" >> {log}
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    made = Bundle(tmp_path)
    made.log = tmp_path / "log"  # type: ignore[attr-defined]
    for folder in (tmp_path, made.root):
        (folder / "hook").write_text(SCRIPT.format(log="/log" if folder != tmp_path else made.log))  # type: ignore[attr-defined]
        (folder / "hook").chmod(0o755)
    return made


def _all(config: dict[str, Any], folder: Path) -> None:
    config["annotations"] = {"k": "v"}
    config["hooks"] = {
        kind: [
            {
                "path": "/hook" if kind == "startContainer" else str(folder / "hook"),
                "args": ["hook", kind],
                "env": ["PATH=/usr/bin:/bin", "WORD=w"],
            }
        ]
        for kind in hooks.KINDS
    }


def _lines(path: Path) -> list[tuple[str, str, str, str, str, dict[str, Any]]]:
    found = []
    for line in path.read_text().splitlines():
        kind, mnt, net, cwd, word, state = line.split(" ", 5)
        found.append((kind, mnt, net, cwd, word, json.loads(state)))
    return found


def test_all_six_in_their_order_and_places(bundle: Bundle, tmp_path: Path) -> None:
    bundle.write("sleep", "100", change=lambda config: _all(config, tmp_path))
    log = tmp_path / "log"
    made = bundle.create(name="the-box")
    try:
        assert [line[0] for line in _lines(log)] == list(hooks.KINDS[:3])
        made.start()
        assert [line[0] for line in _lines(log)] == [*hooks.KINDS[:3], "poststart"]
        mnt, net = (os.readlink(f"/proc/{made.pid}/ns/{kind}") for kind in ("mnt", "net"))
    finally:
        bundle.end(made)
    lines = [*_lines(log), *_lines(bundle.root / "log")]
    own = os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/net")
    statuses = {
        "prestart": "creating",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }
    assert {line[0] for line in lines} == set(hooks.KINDS)
    for kind, seen_mnt, seen_net, _, word, state in lines:
        inside = kind in ("createContainer", "startContainer")
        assert (seen_mnt, seen_net) == ((mnt, net) if inside else own), kind
        assert word == "w"
        assert state == {
            "ociVersion": "1.0.2",
            "id": "the-box",
            "status": statuses[kind],
            "pid": 0 if kind == "poststop" else made.pid,
            "bundle": str(bundle.folder),
            "annotations": {"k": "v"},
        }, kind


def test_the_environment_is_there_before_pivot_root(bundle: Bundle, tmp_path: Path) -> None:
    hook = tmp_path / "look"
    hook.write_text(
        f"#!/bin/sh\npid=$(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/')\n"
        f"cat /proc/$pid/mountinfo > {tmp_path}/mountinfo\n"
    )
    hook.chmod(0o755)

    def change(config: dict[str, Any]) -> None:
        env = ["PATH=/usr/bin:/bin"]
        config["hooks"] = {"createRuntime": [{"path": str(hook), "env": env}]}

    bundle.run("true", change=change)
    seen = (tmp_path / "mountinfo").read_text()
    assert f" {bundle.root}/proc " in seen
    assert " /home " in seen or " /proc " in seen


@pytest.mark.parametrize("kind", hooks.KINDS[:5])
def test_a_failure_ends_the_container(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    def change(config: dict[str, Any]) -> None:
        _all(config, tmp_path)
        if kind == "startContainer":
            failing = {"path": "/bin/sh", "args": ["sh", "-c", "echo because >&2; exit 3"]}
        else:
            failing = {"path": "/bin/sh", "args": ["sh", "-c", "echo because; exit 3"]}
        config["hooks"][kind] = [failing]

    bundle.write("sh", "-c", "touch /ran; sleep 100", change=change)
    words = f"{kind} hook /bin/sh ended with exit code 3: because"
    with pytest.raises(HostctlError, match=words), bundle.running():
        pytest.fail("it runs")
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{bundle.path}"))
    assert _lines(tmp_path / "log")[-1][0] == "poststop"
    assert kind == "poststart" or not (bundle.root / "ran").exists()


def test_poststop_goes_on_after_failures(tmp_path: Path) -> None:
    last = tmp_path / "last"
    entries = [
        {"path": "/bin/false"},
        {"path": "/not/there"},
        {"path": "/bin/sh", "args": ["sh", "-c", f"echo done > {last}"]},
    ]
    found = hooks.prepare({"hooks": {"poststop": entries}}, "n", str(tmp_path))
    assert found is not None
    failures = found.run_poststop()
    assert [error.message.split(" hook ")[1].split()[0] for error in failures] == [
        "/bin/false",
        "/not/there",
    ]
    assert "No such file or directory" in failures[1].message
    assert last.read_text() == "done\n"


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    entry = {"path": "/bin/sh", "args": ["sh", "-c", f"sleep 77 & echo $! > {tmp_path}/p; wait"]}
    found = hooks.prepare({"hooks": {"prestart": [{**entry, "timeout": 0.3}]}}, "n", "/")
    assert found is not None
    with pytest.raises(HostctlError, match=r"did not end within 0\.3 s"):
        found.run("prestart")
    stat = Path("/proc", (tmp_path / "p").read_text().strip(), "stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "no absolute path"),
        ({"path": "true"}, "no absolute path"),
        ({"path": "/bin/true", "timeout": 0}, "timeout"),
        ("x", "no absolute path"),
    ],
)
def test_what_is_no_hook(bundle: Bundle, entry: Any, words: str) -> None:
    bundle.write("true", change=lambda config: config.update(hooks={"prestart": [entry]}))
    with pytest.raises(HostctlError, match=words):
        bundle.create()


def test_a_bundle_without_hooks_has_none() -> None:
    assert hooks.prepare({"hooks": {"prestart": []}}, "n", "/") is None
    assert container.hooks is hooks
    assert mountinfo(os.getpid())


@pytest.mark.parametrize("killed", [False, True])
def test_a_monitor_runs_poststop_hooks_at_the_end(workshop: Workshop, killed: bool) -> None:
    """One at the container's own end, the agent at the end of one whose monitor was killed; once, and all of them."""
    log = Path(workshop.paths.data) / "hooks"

    def change(config: dict[str, Any]) -> None:
        write = ["sh", "-c", f"cat >> {log}; echo >> {log}"]
        config["hooks"] = {"poststop": [{"path": "/bin/false"}, {"path": "/bin/sh", "args": write}]}

    workshop.make("a", "sleep", "1000", change=change)
    now = client.start(workshop.paths, "a")
    assert not log.exists()
    if killed:
        os.kill(now.monitor, 9)
    assert client.stop(workshop.paths, "a", grace=0).status == "exited"
    client.stop(workshop.paths, "a", grace=0)
    (told,) = log.read_text().splitlines()
    assert (json.loads(told)["id"], json.loads(told)["status"]) == ("a", "stopped")
    warnings = Path(workshop.paths.container_run("a"), "monitor.warnings").read_text()
    assert "poststop hook /bin/false" in warnings
