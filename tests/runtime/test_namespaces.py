"""Namespaces: new ones, those joined by path, clocks, and what is refused."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import namespaces

from tests.runtime.bundles import Bundle, mountinfo, wait_for

pytestmark = pytest.mark.root
FILES = {name: file for name, (_, file) in namespaces.KINDS.items()}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path)


@pytest.fixture
def holder() -> Iterator[int]:
    """A process with namespaces of its own, among them one of time, and a process 1."""
    flags = ["-n", "-i", "-u", "-m", "-C", "-p", "-f", "-T", "--monotonic", "5000"]
    process = subprocess.Popen(["unshare", *flags, "sleep", "1000"])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(children, " ")
    pid = int(children.read_text().split()[0])
    wait_for(Path(f"/proc/{pid}/comm"), "sleep")
    try:
        yield pid
    finally:
        os.kill(pid, 9)
        process.wait(10)


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid", "cgroup", "time", "mount"])
def test_each_kind_is_joined_by_path(bundle: Bundle, holder: int, kind: str) -> None:
    def change(config: dict[str, Any]) -> None:
        spaces = [one for one in config["linux"]["namespaces"] if one["type"] != kind]
        spaces.append({"type": kind, "path": f"/proc/{holder}/ns/{FILES[kind]}"})
        config["linux"]["namespaces"] = spaces

    bundle.write("sleep", "100", change=change)
    with bundle.running() as made:
        for name in ("net", "ipc", "uts", "pid", "cgroup", "mnt", "time"):
            theirs = os.readlink(f"/proc/{holder}/ns/{name}")
            mine = os.readlink(f"/proc/{made.pid}/ns/{name}")
            assert (mine == theirs) == (name == FILES[kind]), name
        assert (Path(f"/proc/{made.pid}/root") / "data" / "f").exists()


def test_clocks_are_moved(bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {
            "monotonic": {"secs": 1000, "nanosecs": 7},
            "boottime": {"secs": 86400 * 365},
        }

    printed = bundle.run("cat", "/proc/self/timens_offsets", "/proc/uptime", change=change)
    monotonic, boottime, uptime = printed.splitlines()
    assert monotonic.split() == ["monotonic", "1000", "7"]
    assert boottime.split() == ["boottime", "31536000", "0"]
    host = float(Path("/proc/uptime").read_text().split()[0])
    assert abs(float(uptime.split()[0]) - host - 31536000) < 60


def test_names_and_annotations(bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["domainname"] = "example.org"
        config["annotations"] = {"org.example/any": "thing"}

    printed = bundle.run("cat", *_kernel("hostname", "domainname"), change=change)
    assert printed == "box\nexample.org\n"
    assert bundle.config["annotations"] == {"org.example/any": "thing"}


def _kernel(*names: str) -> list[str]:
    return [f"/proc/sys/kernel/{name}" for name in names]


def test_without_pivot_root(bundle: Bundle) -> None:
    bundle.write("sleep", "100")
    with bundle.running(pivot=False) as made:
        assert set(os.listdir(f"/proc/{made.pid}/root")) >= {"bin", "data"}
        assert mountinfo(made.pid)["/"][3].endswith("/rootfs")


def _spaces(*entries: Any, **linux: Any) -> Any:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].extend(entries)
        config["linux"].update(linux)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_spaces({"type": "moon"}), "no moon namespace"),
        (_spaces({}), "type is not a text"),
        (_spaces({"type": "pid"}), "two pid namespaces"),
        (_spaces({"type": "time", "path": "ns/time"}), "is relative"),
        (_spaces({"type": "time", "path": "/proc/self/ns/uts"}), "it is uts namespace"),
        (_spaces({"type": "time", "path": "/etc/passwd"}), "it is no namespace"),
        (_spaces({"type": "time", "path": "/not/there"}), "No such file"),
        (_spaces(namespaces=[{"type": "pid"}]), "without a mount namespace"),
        (_spaces(timeOffsets={"boottime": {"secs": 1}}), "need a time namespace"),
        (_spaces({"type": "time"}, timeOffsets={"realtime": {}}), "clock realtime"),
        (_spaces({"type": "time"}, timeOffsets={"boottime": {"nanosecs": -1}}), "nanosecs"),
        (_spaces(namespaces={}), "linux.namespaces is not a list"),
        (_spaces(rootfsPropagation="up"), "cannot use rootfsPropagation"),
        (_spaces(maskedPaths=[3]), "something else than texts"),
        (lambda config: config.update(ociVersion="2.0.0"), "ociVersion is 2.0.0"),
        (lambda config: config.pop("ociVersion"), "ociVersion is missing"),
        (lambda config: config.update(root={}), "no root.path"),
        (lambda config: config.update(root={"path": "gone"}), "does not exist"),
        (lambda config: config.update(annotations={"a": 1}), "annotation a"),
        (lambda config: config["process"].update(terminal="yes"), "not true or false"),
        (lambda config: config["process"]["user"].update(uid=True), "uid is not a number"),
    ],
)
def test_what_cannot_be_is_refused(bundle: Bundle, change: Any, words: str) -> None:
    bundle.write("true", change=change)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HostctlError, match=words) as caught:
        bundle.create()
    assert caught.value.message.startswith("cannot")
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{bundle.path}"))
