"""Runs on the test machine: today's client and monitors of other versions, one of them kept as it was."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import attach, client, exec, files, reader, starter, state

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root

FROZEN = Path(__file__).parent / "frozen" / "version1.tar.gz"
LINES = "echo first; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done"


class Old:
    """Starts containers as an agent of that version does: by its own zygote."""

    def __init__(self, workshop: Workshop, folder: Path) -> None:
        self._paths = workshop.paths
        self._root = folder
        with tarfile.open(FROZEN) as archive:
            archive.extractall(folder, filter="data")

    def start(self, name: str) -> state.State:
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from hostctl_host.agent.paths import Paths;"
            "from hostctl_host.monitor import client; client.start(Paths(*sys.argv[2:4]), sys.argv[4])"
        )
        words = (str(self._root), self._paths.data, self._paths.run, name)
        subprocess.run([sys.executable, "-I", "-S", "-c", code, *words], check=True, timeout=60)
        return client.status(self._paths, name)


@pytest.fixture
def old(workshop: Workshop, tmp_path: Path) -> Old:
    return Old(workshop, tmp_path / "old")


class Channel:
    """Takes what a verb sends."""

    gone = False

    def __init__(self) -> None:
        self.output = b""

    def send(self, _kind: str, body: bytes = b"", **_fields: Any) -> None:
        self.output += body

    def receive(self) -> Any:
        from hostctl_host.agent.channel import ControllerGone

        raise ControllerGone

    def on_gone(self, _handler: Any) -> None:
        """It stays."""


def test_one_of_version_1_is_seen_read_and_entered(workshop: Workshop, old: Old) -> None:
    workshop.make("a", "sh", "-c", LINES)
    now = old.start("a")
    assert now.status == "running" and now.watched
    assert os.path.basename(starter.path(workshop.paths)) not in os.listdir(workshop.paths.run)
    workshop.wait_output("a", "line 3\n")
    told = [entry.text for entry in reader.Reader(workshop.paths, "a", -1).past()]
    assert told[:3] == ["first\n", "line 1\n", "line 2\n"]
    channel = Channel()
    args = {"command": ["sh", "-c", "echo inside; exit 7"]}
    assert exec.run(workshop.paths, "a", now, args, channel) == 7  # type: ignore[arg-type]
    assert channel.output == b"inside\n"
    hook = {"command": ["echo", "hooked"]}
    assert client.run(workshop.paths, "a", hook, 10) == (0, "hooked\n")
    with pytest.raises(HostctlError, match="its monitor is of an older hostctl"):
        attach.connect(workshop.paths, "a")
    client.update(workshop.paths, "a", {"memory": {"limit": 64 << 20}})
    assert client.stop(workshop.paths, "a", grace=0).exit_code == 137
    assert workshop.cgroups() == []


def test_one_of_version_1_hears_signals_and_is_replaced(workshop: Workshop, old: Old) -> None:
    script = "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"
    workshop.make("a", "sh", "-c", script, settings={"stop_grace_period": 0.1})
    first = old.start("a")
    workshop.wait_output("a", "up\n")
    client.kill(workshop.paths, "a", signal.SIGHUP)
    workshop.wait_output("a", "hup\n")
    assert client.start(workshop.paths, "a").pid == first.pid
    client.remove(workshop.paths, "a")
    until(lambda: not state.alive(first.monitor, first.monitor_start))
    second = client.start(workshop.paths, "a")
    assert second.status == "running" and second.pid != first.pid


def test_todays_monitor_adopts_what_one_of_version_1_left(workshop: Workshop, old: Old) -> None:
    workshop.make("a", "sh", "-c", LINES)
    first = old.start("a")
    workshop.wait_output("a", "line 3\n")
    os.kill(first.monitor, signal.SIGKILL)
    until(lambda: not client.status(workshop.paths, "a").watched)
    adopted = client.adopt(workshop.paths, "a")
    assert adopted.pid == first.pid and adopted.watched
    seen = workshop.output("a").count("\n")
    workshop.wait_output("a", f"line {seen + 10}\n")
    numbers = [int(line.split()[1]) for line in workshop.output("a").splitlines()[1:]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert client.stop(workshop.paths, "a", grace=0).status == "exited"


def test_two_versions_side_by_side(workshop: Workshop, old: Old) -> None:
    for name in ("a", "b"):
        workshop.make(name, "sleep", "1000")
    old.start("a")
    client.start(workshop.paths, "b")
    assert {client.status(workshop.paths, name).watched for name in ("a", "b")} == {True}
    for name in ("a", "b"):
        assert client.stop(workshop.paths, name, grace=0).status == "exited"


@pytest.fixture
def newer(workshop: Workshop) -> Iterator[None]:
    """Something answers for container `a` in a language of later days."""
    folder = workshop.paths.container_run("a")
    workshop.make("a", "sleep", "1000")
    os.makedirs(folder)
    listener = socket.socket(socket.AF_UNIX)
    path = os.path.join(folder, files.SOCKET)
    here = os.getcwd()
    os.chdir(folder)
    listener.bind(files.SOCKET)
    os.chdir(here)
    listener.listen()

    def answer() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            peer.recv(4096)
            peer.sendall(b'{"version": 9, "state": {"mood": "fine"}}\n')
            peer.close()

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    os.unlink(path)


@pytest.mark.usefixtures("newer")
def test_a_version_that_is_not_known_is_said(workshop: Workshop) -> None:
    for act in (
        lambda: client.stop(workshop.paths, "a", grace=0),
        lambda: client.kill(workshop.paths, "a", 15),
        lambda: client.run(workshop.paths, "a", {"command": ["true"]}, 1),
    ):
        with pytest.raises(HostctlError, match="its monitor speaks version 9") as caught:
            act()
        assert caught.value.ref == "monitor-version"
        assert "use the newer hostctl" in caught.value.hint


def test_a_monitor_says_what_it_does_not_understand(workshop: Workshop) -> None:
    from hostctl_host.monitor import control

    workshop.make("a", "sleep", "1000")
    client.start(workshop.paths, "a")
    path = os.path.join(workshop.paths.container_run("a"), files.SOCKET)
    answer = control.ask(path, {"version": 9, "verb": "status"}, 5)
    assert answer["version"] == 1
    assert answer["error"]["ref"] == "monitor-version"
    assert "version 9" in answer["error"]["message"]
    assert control.ask(path, {"verb": "sing"}, 5)["error"]["ref"] == "unknown-verb"
