"""Runs on the test machine: who is attached hears the container and is heard, whatever becomes of either."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.agent.channel import ControllerGone
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import apart, attach, client

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root

ECHO = "echo up; while read line; do echo got $line; echo err $line >&2; done"
OPEN = {"stdin_open": True}


class Channel:
    """A controller that is attached: `output` by stream, and what it was told first."""

    def __init__(self) -> None:
        self.output = {"stdout": b"", "stderr": b""}
        self.said: dict[str, Any] = {}
        self.gone = False
        self.slow: threading.Event | None = None
        self._frames: queue.Queue[Any] = queue.Queue()
        self._on_gone: list[Any] = []
        self._handlers: dict[str, Any] = {}

    def send(self, kind: str, body: bytes = b"", **fields: Any) -> None:
        if kind == "row":
            self.said = fields["data"]
            return
        if self.slow is not None:
            self.slow.wait(30)
        self.output[fields["stream"]] += body

    def receive(self) -> Any:
        frame = self._frames.get()
        if frame is None:
            raise ControllerGone
        return frame

    def on_gone(self, handler: Any) -> None:
        self._on_gone.append(handler)

    def on(self, kind: str, handler: Any) -> None:
        self._handlers[kind] = handler

    def put(self, kind: str, body: bytes = b"", **fields: Any) -> None:
        frame = ({"type": kind, **fields}, body)
        if kind in self._handlers:
            self._handlers[kind](*frame)
        else:
            self._frames.put(frame)

    def go(self) -> None:
        self.gone = True
        self._frames.put(None)
        for handler in self._on_gone:
            handler()


class Attached:
    """One attachment in a thread."""

    def __init__(self, workshop: Workshop, name: str, channel: Channel | None = None) -> None:
        self.channel = channel or Channel()
        self.code: int | None = None
        self.error: HostctlError | None = None
        now = client.status(workshop.paths, name)

        def run() -> None:
            try:
                self.code = attach.run(workshop.paths, name, now, {}, self.channel)  # type: ignore[arg-type]
            except HostctlError as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()
        until(lambda: self.channel.said or self.error)

    def hears(self, words: bytes, stream: str = "stdout") -> None:
        until(lambda: words in self.channel.output[stream])

    def end(self) -> int | None:
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.code


def _attachments(workshop: Workshop) -> list[str]:
    folder = Path(workshop.paths.container_run("a"))
    return [path.name for path in folder.iterdir() if path.name.startswith("attach")]


def test_input_output_signals_and_the_exit_code(workshop: Workshop) -> None:
    script = f"trap 'echo int; exit 9' INT; {ECHO}"
    workshop.make("a", "sh", "-c", script, settings=OPEN, stdin_open=True)
    client.start(workshop.paths, "a")
    workshop.wait_output("a", "up")
    one, two = Attached(workshop, "a"), Attached(workshop, "a")
    assert one.channel.said == {"tty": False, "stdin": True}
    one.channel.put("stdin", b"this\nand ")
    one.channel.put("stdin", b"that\n")
    for each in (one, two):
        each.hears(b"got this\ngot and that\n")
        each.hears(b"err this\nerr and that\n", "stderr")
    two.channel.put("signal", number=int(signal.SIGINT))
    assert (one.end(), two.end()) == (9, 9)
    assert one.channel.output["stdout"] == b"got this\ngot and that\nint\n"
    assert _attachments(workshop) == []
    assert "got and that" in workshop.output("a")  # the log has it all the same


def test_a_terminal_is_resized_and_prompts_are_heard(workshop: Workshop) -> None:
    settings = {**OPEN, "tty": True}
    script = (
        "trap 'stty size' WINCH; printf 'prompt> '; while :; do read line && echo got $line; done"
    )
    workshop.make("a", "sh", "-c", script, settings=settings, tty=True, stdin_open=True)
    now = client.start(workshop.paths, "a")
    one = Attached(workshop, "a")
    assert one.channel.said == {"tty": True, "stdin": True}
    one.channel.put("resize", rows=33, columns=101)
    one.channel.put("stdin", b"hello\n")
    one.hears(b"got hello\r\n")
    client.run(workshop.paths, "a", {"command": ["kill", "-WINCH", "1"]}, 5)
    one.channel.put("stdin", b"\n")
    one.hears(b"33 101\r\n")
    os.kill(now.pid, signal.SIGKILL)
    assert one.end() == 137


def test_an_unfinished_line_is_heard_at_once(workshop: Workshop) -> None:
    script = "read line; printf 'password: '; read line; exit 4"
    workshop.make("a", "sh", "-c", script, settings=OPEN, stdin_open=True)
    client.start(workshop.paths, "a")
    one = Attached(workshop, "a")
    one.channel.put("stdin", b"\n")
    one.hears(b"password: ")
    assert workshop.output("a") == ""
    one.channel.put("stdin", b"\n")
    assert one.end() == 4


def test_without_stdin_nothing_is_sent(workshop: Workshop) -> None:
    workshop.make("a", "sh", "-c", "read line; echo read; sleep 1000")
    client.start(workshop.paths, "a")
    one = Attached(workshop, "a")
    assert one.channel.said == {"tty": False, "stdin": False}
    one.channel.put("stdin", b"lost\n")
    client.stop(workshop.paths, "a", grace=0)
    assert one.end() == 137


def test_who_detaches_leaves_nothing_behind(workshop: Workshop) -> None:
    workshop.make("a", "sh", "-c", ECHO, settings=OPEN, stdin_open=True)
    now = client.start(workshop.paths, "a")
    for _ in range(2 * len(apart.TAPS)):
        one = Attached(workshop, "a")
        one.channel.go()
        assert one.end() == 0
    last = Attached(workshop, "a")
    open_now = {int(fd) for fd in os.listdir(f"/proc/{now.monitor}/fd")}
    assert len(open_now & set(apart.TAPS)) == 1
    assert not open_now & set(range(3, apart.LISTENER + 1))
    last.channel.put("stdin", b"still\n")
    last.hears(b"got still\n")
    last.channel.go()
    last.end()
    assert client.status(workshop.paths, "a").pid == now.pid


def test_too_many_are_told_at_once(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 600.0)  # nobody waits for that
    workshop.make("a", "sleep", "1000")
    client.start(workshop.paths, "a")
    all_ = [Attached(workshop, "a") for _ in range(len(apart.TAPS) + 1)]
    assert [one.error for one in all_[:-1]] == [None] * len(apart.TAPS)
    error = all_[-1].error
    assert error is not None and "16 are attached already" in error.message
    assert error.ref == "too-many-attached"
    client.stop(workshop.paths, "a", grace=0)
    for one in all_:
        one.end()


def test_who_does_not_listen_loses_it_and_is_told(workshop: Workshop) -> None:
    """The container is not kept waiting; its log has everything."""
    much = "head -c 65536 /dev/zero | tr '\\0' x; echo; i=$((i+1))"
    script = (
        f"read line; i=0; while [ $i -lt 150 ]; do {much}; done; echo done; read line; echo bye"
    )
    workshop.make("a", "sh", "-c", script, settings=OPEN, stdin_open=True)
    client.start(workshop.paths, "a")
    channel = Channel()
    channel.slow = threading.Event()
    one = Attached(workshop, "a", channel)
    channel.put("stdin", b"go\n")
    folder = Path(workshop.paths.container("a"), "log", "container.log")
    until(lambda: b'"done\\n"' in folder.read_bytes()[-200:], 60)
    channel.slow.set()
    seen = -1
    while seen != len(channel.output["stdout"]):  # until all that was kept is out
        seen = len(channel.output["stdout"])
        time.sleep(0.5)
    channel.put("stdin", b"end\n")
    assert one.end() == 0
    assert len(channel.output["stdout"]) < 150 * 65536
    assert b"output is missing here" in channel.output["stderr"]


def test_a_killed_monitor_ends_the_attachment_not_the_container(workshop: Workshop) -> None:
    workshop.make("a", "sh", "-c", ECHO, settings=OPEN, stdin_open=True)
    now = client.start(workshop.paths, "a")
    one = Attached(workshop, "a")
    os.kill(now.monitor, signal.SIGKILL)
    one.end()
    assert one.error is not None and "its monitor was killed" in one.error.message
    with pytest.raises(HostctlError, match="its monitor is gone"):
        attach.connect(workshop.paths, "a")
    adopted = client.adopt(workshop.paths, "a")
    assert adopted.pid == now.pid
    two = Attached(workshop, "a")
    two.channel.put("stdin", b"again\n")
    two.hears(b"got again\n")
    client.stop(workshop.paths, "a", grace=0)
    two.end()
    assert two.error is not None and "its exit code was lost" in two.error.message


def test_a_signal_arrives_though_nobody_reads_the_input(workshop: Workshop) -> None:
    script = "trap 'exit 6' TERM; echo up; while true; do sleep 0.01; done"
    workshop.make("a", "sh", "-c", script, settings=OPEN, stdin_open=True)
    client.start(workshop.paths, "a")
    until(lambda: "up" in workshop.output("a"))
    one = Attached(workshop, "a")
    until(lambda: bool(one.channel.said))
    one.channel.put("stdin", b"x" * (1 << 20))
    one.channel.put("signal", number=signal.SIGTERM)
    assert one.end() == 6


def test_sizes_and_a_detach_do_not_wait_for_unread_input(workshop: Workshop) -> None:
    settings = {**OPEN, "tty": True}
    script = "stty raw -echo; trap 'stty size' WINCH; echo up; while true; do sleep 0.01; done"
    workshop.make("a", "sh", "-c", script, settings=settings, tty=True, stdin_open=True)
    now = client.start(workshop.paths, "a")
    workshop.wait_output("a", "up")
    one = Attached(workshop, "a")
    one.channel.put("stdin", b"x" * (1 << 20))
    one.channel.put("resize", rows=31, columns=97)
    one.hears(b"31 97")
    one.channel.put("detach")
    assert one.end() == 0
    assert client.status(workshop.paths, "a").pid == now.pid


def test_what_was_typed_before_a_detach_arrives(workshop: Workshop) -> None:
    workshop.make("a", "sh", "-c", ECHO, settings=OPEN, stdin_open=True)
    client.start(workshop.paths, "a")
    one = Attached(workshop, "a")
    one.channel.put("stdin", b"last words\n")
    one.channel.put("detach")
    assert one.end() == 0
    workshop.wait_output("a", "got last words")


def test_a_restart_ends_it_too(workshop: Workshop) -> None:
    settings = {**OPEN, "restart": "always"}
    workshop.make("a", "sh", "-c", "read line; exit 5", settings=settings, stdin_open=True)
    client.start(workshop.paths, "a")
    one = Attached(workshop, "a")
    one.channel.put("stdin", b"\n")
    assert one.end() == 5
    until(lambda: client.status(workshop.paths, "a").restarts == 1)
    workshop.wait("a", "running")
    two = Attached(workshop, "a")
    two.channel.put("stdin", b"\n")
    assert two.end() == 5


def test_a_restart_ends_it_though_a_client_still_waits(workshop: Workshop) -> None:
    settings = {**OPEN, "restart": "always"}
    workshop.make("a", "sh", "-c", "read line; exit 5", settings=settings, stdin_open=True)
    client.start(workshop.paths, "a")
    one = Attached(workshop, "a")
    until(lambda: bool(one.channel.said))
    request = {"verb": "wait"}
    waits = threading.Thread(target=client.ask, args=(workshop.paths, "a", request, 60.0))
    waits.start()
    monitor = client.status(workshop.paths, "a").monitor
    until(lambda: len(_namesakes(monitor)) > 1)
    one.channel.put("stdin", b"\n")
    assert one.end() == 5
    client.stop(workshop.paths, "a", grace=0)
    waits.join(20)
    assert not waits.is_alive()


def _namesakes(monitor: int) -> list[int]:
    """Processes with a monitor's name that are of its process group: itself, and who answers its clients."""
    group = os.getpgid(monitor)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "comm").read_text().strip()
                if name == "hostctl-monitor" and os.getpgid(int(entry.name)) == group:
                    found.append(int(entry.name))
            except (OSError, ProcessLookupError):
                continue
    return found
