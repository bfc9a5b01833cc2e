"""Runs on the test machine: `hostctl exec -it` and `hostctl attach` at a real terminal, as an operator has them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hostctl_host.monitor import client

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root

_SIZE = ("COLUMNS", "LINES")
PROMPT = {"stdin_open": True, "tty": True}


class Console:
    """hostctl at a terminal of its own, 30 rows of 90 characters."""

    def __init__(
        self, inventory: Path, *words: str, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.said = b""
        self._words = [sys.executable, "-m", "hostctl", words[0], "--inventory", str(inventory)]
        self._words += words[1:]
        surroundings = {key: value for key, value in environment.items() if key not in _SIZE}
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            size(0, 30, 90)
            os.execve(sys.executable, self._words, surroundings)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def expect(self, words: bytes, seconds: float = 30) -> None:
        """Read on until it says so; what was said up to there is done with."""
        deadline = time.monotonic() + seconds
        while words not in self.said:
            assert select.select([self.master], [], [], deadline - time.monotonic())[0], self.said
            try:
                self.said += os.read(self.master, 65536)
            except OSError:
                raise AssertionError(self.said) from None
        self.said = self.said.partition(words)[2]

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.master)[3] & termios.ICANON

    def end(self) -> int:
        """Its exit code; the terminal is as it was."""
        while True:
            try:
                if not os.read(self.master, 65536):
                    break
            except OSError:
                break
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@pytest.fixture
def inventory(workshop: Workshop, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "inventory.yml"
    data, run = workshop.paths.data, workshop.paths.run
    local = f"ansible_connection: local, hostctl_data_dir: {data}, hostctl_run_dir: {run}"
    path.write_text(f"all: {{hosts: {{here: {{{local}}}}}}}\n")
    yield path
    workshop.clear()


@pytest.fixture
def sleeper(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    client.start(workshop.paths, "a")


@pytest.mark.usefixtures("sleeper")
def test_exec_at_a_terminal_has_its_size_from_the_first_moment(inventory: Path) -> None:
    script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    console = Console(inventory, "exec", "-it", "a", "sh", "-c", script)
    console.expect(b"30 90\r\nready\r\n")
    assert console.is_raw()
    size(console.master, 44, 111)
    console.expect(b"44 111\r\n")
    console.type(b"\x03")  # Ctrl-C is the program's
    assert console.end() == 130


@pytest.mark.usefixtures("sleeper")
def test_exec_says_how_its_program_ended(inventory: Path) -> None:
    for script, code in (
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 125", 125),
        ("kill -9 $$", 137),
        ("kill -15 $$", 143),
    ):
        console = Console(inventory, "exec", "-it", "a", "sh", "-c", script)
        assert console.end() == code, script
    assert Console(inventory, "exec", "-it", "a", "/etc/passwd").end() == 126
    assert Console(inventory, "exec", "-it", "a", "no-such-program").end() == 127
    assert Console(inventory, "exec", "-it", "no-such-container", "true").end() == 125


@pytest.mark.usefixtures("sleeper")
def test_the_terminal_is_as_before_when_exec_is_told_to_end(
    inventory: Path, workshop: Workshop
) -> None:
    console = Console(inventory, "exec", "-it", "a", "sh", "-c", "echo up; sleep 999")
    console.expect(b"up\r\n")
    assert console.is_raw()
    os.kill(console.pid, signal.SIGTERM)
    until(lambda: not console.is_raw())
    assert console.end() == 143
    # And its program is ended.
    until(lambda: "sleep 999" not in client.run(workshop.paths, "a", {"command": ["ps"]}, 5)[1])


@pytest.mark.usefixtures("sleeper")
def test_exec_with_pipes(inventory: Path) -> None:
    words = [sys.executable, "-m", "hostctl", "exec", "--inventory", str(inventory), "-i", "a"]
    done = subprocess.run(
        [*words, "sort"], input=b"b\na\n", capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"a\nb\n"
    big = os.urandom(1 << 20)
    done = subprocess.run([*words, "cat"], input=big, capture_output=True, timeout=60, check=True)
    assert done.stdout == big


def test_attach_to_a_terminal(workshop: Workshop, inventory: Path) -> None:
    script = "while :; do printf '> '; read line || exit 3; [ $line = size ] && stty size; done"
    workshop.make("a", "sh", "-c", script, settings=PROMPT, tty=True, stdin_open=True)
    now = client.start(workshop.paths, "a")
    console = Console(inventory, "attach", "a")
    until(console.is_raw)
    console.type(b"size\r")
    console.expect(b"30 90\r\n> ")
    size(console.master, 44, 111)
    until(lambda: _window(now.pid) == (44, 111))
    console.type(b"size\r")
    console.expect(b"44 111\r\n> ")
    console.type(b"\x10x\x7f\x7f\x10\x11")  # Ctrl-P alone is input; both keys are not
    assert console.end() == 0
    assert client.status(workshop.paths, "a").pid == now.pid
    again = Console(inventory, "attach", "--detach-keys", "ctrl-@", "a")
    until(again.is_raw)
    again.type(b"\r")
    again.expect(b"> ")
    again.type(b"\x04")
    assert again.end() == 3


def _window(pid: int) -> tuple[int, int]:
    fd = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NOCTTY)
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    finally:
        os.close(fd)
    return rows, columns


def test_ctrl_c_reaches_the_program_of_an_attached_terminal(
    workshop: Workshop, inventory: Path
) -> None:
    script = "trap 'echo int; exit 6' INT; echo up; while :; do sleep 0.05; done"
    workshop.make("a", "sh", "-c", script, settings=PROMPT, tty=True, stdin_open=True)
    client.start(workshop.paths, "a")
    console = Console(inventory, "attach", "a")
    until(console.is_raw)
    console.type(b"\x03")
    console.expect(b"int\r\n")
    assert console.end() == 6


def test_signals_are_sent_on_to_one_without_a_terminal(workshop: Workshop, inventory: Path) -> None:
    script = (
        "trap 'echo usr1' USR1; trap 'echo int; exit 5' INT; while :; do echo .; sleep 0.1; done"
    )
    workshop.make("a", "sh", "-c", script)
    client.start(workshop.paths, "a")
    console = Console(inventory, "attach", "a")
    console.expect(b".\r\n")
    os.kill(console.pid, signal.SIGUSR1)
    console.expect(b"usr1\r\n")
    console.type(b"\x03")
    console.expect(b"int\r\n")
    assert console.end() == 5


def test_without_sig_proxy_only_hostctl_ends(workshop: Workshop, inventory: Path) -> None:
    workshop.make("a", "sh", "-c", "while :; do echo .; sleep 0.1; done")
    now = client.start(workshop.paths, "a")
    console = Console(inventory, "attach", "--no-sig-proxy", "--no-stdin", "a")
    console.expect(b".\r\n")
    console.type(b"\x03")
    assert console.end() == 130
    assert client.status(workshop.paths, "a").pid == now.pid


def test_input_from_a_pipe_and_streams_apart(workshop: Workshop, inventory: Path) -> None:
    script = (
        "while read line; do echo out $line; echo err $line >&2; [ $line = end ] && exit 4; done"
    )
    workshop.make("a", "sh", "-c", script, settings={"stdin_open": True}, stdin_open=True)
    client.start(workshop.paths, "a")
    words = [sys.executable, "-m", "hostctl", "attach", "--inventory", str(inventory), "a"]
    done = subprocess.run(words, input=b"one\nend\n", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        4,
        b"out one\nout end\n",
        b"err one\nerr end\n",
    )


def test_attach_says_why_not(workshop: Workshop, inventory: Path) -> None:
    workshop.make("a", "true")
    words = [sys.executable, "-m", "hostctl", "attach", "--inventory", str(inventory)]
    for more, code, message in (
        (["a"], 125, "cannot attach to a: it is created"),
        (["b"], 125, "cannot find container b"),
        (["--detach-keys", "ctrl-pp", "a"], 1, "'ctrl-pp' is no key"),
    ):
        done = subprocess.run(
            [*words, *more], capture_output=True, timeout=60, text=True, check=False
        )
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
