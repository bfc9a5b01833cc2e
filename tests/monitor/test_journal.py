"""Runs on the test machine: a container's log in a journal that the test keeps, and what if that takes nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import client, files, starter

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root

LOG = {"driver": "journald", "image": "shop/web:1", "tag": "{{.Name}}/{{.ID}}"}


class Journald:
    """Takes datagrams as systemd's does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, bytes]] = []
        self.socket = self._listen()

    def _listen(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.bind(str(self.path))
        made.setblocking(False)
        return made

    def begin_anew(self) -> None:
        self.socket.close()
        self.path.unlink()
        self.socket = self._listen()

    def read(self) -> list[bytes]:
        """All messages so far."""
        while True:
            try:
                data = self.socket.recv(1 << 20)
            except BlockingIOError:
                return [entry["MESSAGE"] for entry in self.entries]
            fields = (line.split(b"=", 1) for line in data.removesuffix(b"\n").split(b"\n"))
            self.entries.append({key.decode(): value for key, value in fields})


@pytest.fixture
def journald(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    path = workshop.layers.parent / "journal.sock"
    change = f"from {{package}}.monitor import journal; journal.SOCKET = {str(path)!r}; main("
    monkeypatch.setattr(starter, "_CODE", starter._CODE.replace("main(", change))
    made = Journald(path)
    yield made
    made.socket.close()


def test_entries_have_dockers_fields(workshop: Workshop, journald: Journald) -> None:
    script = "echo out; echo err >&2; printf part; exit 3"
    workshop.run("a", "sh", "-c", script, settings={"log": LOG})
    until(lambda: sorted(journald.read()) == [b"err", b"out", b"part"])
    identity = files.identity(workshop.paths, "a").encode()
    assert len(identity) == 64
    common = {
        "CONTAINER_ID": identity[:12],
        "CONTAINER_ID_FULL": identity,
        "CONTAINER_NAME": b"a",
        "CONTAINER_TAG": b"a/" + identity[:12],
        "IMAGE_NAME": b"shop/web:1",
        "SYSLOG_IDENTIFIER": b"a/" + identity[:12],
    }
    for entry in journald.entries:
        priority = b"3" if entry["MESSAGE"] == b"err" else b"6"
        assert entry == {**common, "PRIORITY": priority, "MESSAGE": entry["MESSAGE"]}
    assert not list(Path(workshop.paths.container("a"), "log").iterdir())


def test_a_long_line_comes_in_parts(workshop: Workshop, journald: Journald) -> None:
    script = (
        "head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 16384 /dev/zero | tr '\\0' y; echo"
    )
    workshop.run("a", "sh", "-c", script, settings={"log": LOG})
    until(lambda: len(journald.read()) >= 4)
    parts = [
        (len(entry["MESSAGE"]), entry.get("CONTAINER_PARTIAL_MESSAGE"))
        for entry in journald.entries
    ]
    assert parts == [(16384, b"true"), (16384, b"true"), (40000 - 32768, None), (16384, None)]


def test_a_terminal_ends_its_lines_as_others(workshop: Workshop, journald: Journald) -> None:
    workshop.run("a", "echo", "x", settings={"log": LOG, "tty": True}, tty=True)
    until(lambda: journald.read() == [b"x"])


def test_it_is_found_again_when_it_begins_anew(workshop: Workshop, journald: Journald) -> None:
    settings = {"log": LOG, "stdin_open": True}
    workshop.make("a", "cat", settings=settings, stdin_open=True)
    client.start(workshop.paths, "a")
    say = _input(workshop)
    os.write(say, b"one\n")
    until(lambda: journald.read() == [b"one"])
    journald.begin_anew()
    os.write(say, b"two\nthree\n")
    until(lambda: journald.read() == [b"one", b"two", b"three"])
    os.close(say)


def test_one_that_takes_nothing_does_not_stop_the_container(
    workshop: Workshop, journald: Journald
) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; touch /tmp/done; cat"
    settings = {"log": LOG, "stdin_open": True}
    workshop.make("a", "sh", "-c", script, settings=settings, stdin_open=True)
    now = client.start(workshop.paths, "a")
    until(lambda: os.path.exists(f"/proc/{now.pid}/root/tmp/done"), 30)
    say = _input(workshop)
    taken = len(journald.read())
    assert taken < 20000
    os.write(say, b"last\n")
    until(lambda: b"last" in journald.read())
    kept = journald.read()
    told = [message for message in kept if message.startswith(b"hostctl dropped ")]
    assert sum(int(message.split()[2]) for message in told) + len(kept) - len(told) == 20001
    os.close(say)


def test_without_one_there_is_no_start(workshop: Workshop, journald: Journald) -> None:
    journald.path.unlink()
    workshop.make("a", "true", settings={"log": LOG})
    with pytest.raises(HostctlError, match="cannot write to the journal") as caught:
        client.start(workshop.paths, "a")
    assert "json-file" in caught.value.hint


def _input(workshop: Workshop) -> int:
    return os.open(os.path.join(workshop.paths.container_run("a"), "stdin"), os.O_WRONLY)
