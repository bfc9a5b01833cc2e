"""Runs in tests: `-k` and `-K` ask on a real terminal, show nothing, and leave nothing for others to read."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import OPS_PASSWORD, Lab

from .command import PROGRAM

HANG = 60.0
TASK = {"copy": {"dest": "/etc/motd", "content": "asked\n"}}


class Terminal:
    """`hostctl` on a terminal of its own, where somebody types."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.shown = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execve(PROGRAM, [str(PROGRAM), *argv], {**env, "COLUMNS": "200"})
            finally:
                os._exit(127)

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + HANG
        while self.shown.count(text) < times:
            assert self._read(deadline), f"it ended without {text!r}:\n{self.shown}"

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def end(self) -> int:
        """Its exit code, after all that it says."""
        deadline = time.monotonic() + HANG
        while self._read(deadline):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"it hangs:\n{self.shown}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the last one who had the other side is gone
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


class Site:
    """One host, a playbook, and an inventory that gives no password."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.host, self.folder = lab["asks"], folder
        (folder / ".ssh").mkdir()
        self.env = {**lab.environment(), "HOME": str(folder)}
        self.known = f"-o UserKnownHostsFile={lab.known_hosts}"
        self.key = str(lab.ssh_key)

    def argv(self, *options: str, key: bool = True, tasks: list[object] | None = None) -> list[str]:
        host = {
            "ansible_host": self.host.address,
            "ansible_user": "opspw",
            "ansible_ssh_common_args": self.known,
        }
        if key:
            host["ansible_ssh_private_key_file"] = self.key
        inventory, book = self.folder / "inventory.yml", self.folder / "play.yml"
        inventory.write_text(json.dumps({"all": {"hosts": {"asks": host}}}))
        play = {"project": "asked", "hosts": "all", "become": True, "tasks": tasks or [TASK]}
        book.write_text(json.dumps([play]))
        return ["apply", "-i", str(inventory), *options, str(book)]

    def terminal(
        self, *options: str, key: bool = True, tasks: list[object] | None = None
    ) -> Terminal:
        return Terminal(self.argv(*options, key=key, tasks=tasks), self.env)


@pytest.fixture(scope="module")
def asks() -> Iterator[Lab]:
    with Lab({"asks": {"user": "opspw"}}, with_images=False) as lab:
        yield lab


@pytest.fixture
def site(asks: Lab, tmp_path: Path) -> Iterator[Site]:
    yield Site(asks, tmp_path)
    asks["asks"].sh("echo before > /etc/motd")


def command_lines() -> str:
    """All that anybody on this machine and on its lab hosts can read about running programs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def test_sudo_password(site: Site) -> None:
    """The right one works; while a task runs as root, no command line has it, here or on the host."""
    waits = {"command": "sh -c 'touch /run/here; until test -e /run/go; do sleep 0.05; done'"}
    site.host.sh("rm -f /run/here /run/go")
    terminal = site.terminal("-K", tasks=[TASK, waits])
    terminal.wait_for("sudo password: ")
    assert not terminal.echoes()
    terminal.type(OPS_PASSWORD + "\n")
    deadline = time.monotonic() + HANG
    while site.host.run(["test", "-e", "/run/here"], check=False).returncode:
        assert time.monotonic() < deadline, terminal.shown
    lines = command_lines()
    site.host.sh("touch /run/go")
    assert terminal.end() == 0, terminal.shown
    assert "until test -e /run/go" in lines
    assert OPS_PASSWORD not in lines
    assert OPS_PASSWORD not in terminal.shown
    assert site.host.sh("cat /etc/motd") == "asked\n"


def test_wrong_sudo_password(site: Site) -> None:
    terminal = site.terminal("-K")
    terminal.wait_for("sudo password: ")
    terminal.type("not-the-one\n")
    assert terminal.end() == 2
    assert "cannot become root on asks: wrong sudo password" in terminal.shown
    assert "not-the-one" not in terminal.shown
    assert site.host.sh("cat /etc/motd") != "asked\n"


def test_ssh_password(site: Site) -> None:
    """`-k` and `-K` together: two questions, in this order, and no key is needed."""
    terminal = site.terminal("-k", "-K", key=False)
    terminal.wait_for("SSH password: ")
    assert not terminal.echoes()
    terminal.type(OPS_PASSWORD + "\n")
    terminal.wait_for("sudo password: ")
    assert not terminal.echoes()
    terminal.type(OPS_PASSWORD + "\n")
    assert terminal.end() == 0, terminal.shown
    assert OPS_PASSWORD not in terminal.shown
    assert site.host.sh("cat /etc/motd") == "asked\n"


def test_wrong_ssh_password(site: Site) -> None:
    terminal = site.terminal("-k", key=False)
    terminal.wait_for("SSH password: ")
    terminal.type("not-the-one\n")
    assert terminal.end() == 4
    told = re.sub(r"\s+", " ", terminal.shown)
    assert "as opspw: the password was refused" in told
    assert "-k" in told
    assert "not-the-one" not in terminal.shown


def test_interrupted_at_the_question(site: Site) -> None:
    """Ctrl-C where a password is asked: nothing happens on the host, and the terminal echoes again."""
    terminal = site.terminal("-K")
    keeper = os.open(f"/proc/{terminal.pid}/fd/0", os.O_RDWR | os.O_NOCTTY)
    try:
        terminal.wait_for("sudo password: ")
        terminal.type("\x03")
        code = os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1])
        assert code in (130, -signal.SIGINT), terminal.shown
        assert terminal.echoes()
    finally:
        os.close(keeper)
    assert site.host.sh("cat /etc/motd") != "asked\n"


@pytest.mark.parametrize(
    ("option", "what", "variable"),
    [
        ("-k", "SSH password", "ansible_password"),
        ("-K", "sudo password", "ansible_become_password"),
    ],
)
def test_no_terminal(site: Site, option: str, what: str, variable: str) -> None:
    """Without any terminal the run ends at once, with the way to do without."""
    done = subprocess.run(
        [str(PROGRAM), *site.argv(option, key=option == "-K")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=site.env,
        timeout=HANG,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"cannot ask for the {what}: there is no terminal" in done.stdout
    assert f"set {variable} (from a vault)" in done.stdout
