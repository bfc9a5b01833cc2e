"""Runs on the controller: asks the person at the terminal for secrets, each one once per run."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from hostctl_host.contract.errors import HostctlError

# The terminal's settings from before the question that waits now; a process has one terminal.
_settings: list[list[Any]] = []


class Asker:
    """Prompts on the terminal. Answers are kept in memory, so 50 hosts ask once.

    Args:
        ssh_password: ask for the SSH password of hosts that give none (`-k`).
        become_password: ask for the sudo password of hosts that give none (`-K`).
    """

    def __init__(self, *, ssh_password: bool = False, become_password: bool = False) -> None:
        self.ssh_password = ssh_password
        self.become_password = become_password
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}

    def for_keys(self) -> Asker:
        """The same terminal for passphrases; no SSH password (jump hosts have their own)."""
        other = Asker()
        other._lock, other._answers = self._lock, self._answers
        return other

    def ssh(self) -> str:
        """The SSH password for all hosts, or "" where it was not to be asked for."""
        return self.secret("SSH password: ", "ansible_password") if self.ssh_password else ""

    def become(self) -> str:
        """The sudo password for all hosts, or "" where it was not to be asked for."""
        if not self.become_password:
            return ""
        return self.secret("sudo password: ", "ansible_become_password")

    def can_ask(self) -> bool:
        """Whether there is a terminal to ask on."""
        try:
            with open("/dev/tty", "rb"):
                return True
        except OSError:
            return False

    def secret(self, prompt: str, variable: str = "") -> str:
        """The answer to the prompt, typed without echo; asked only the first time.

        Args:
            variable: the inventory variable that would make the question needless.

        Raises:
            HostctlError: there is no terminal.
        """
        with self._lock:
            if prompt not in self._answers:
                if not self.can_ask():
                    instead = f", or set {variable} (from a vault)" if variable else ""
                    raise HostctlError(
                        f"cannot ask for the {prompt.rstrip(': ')}: there is no terminal",
                        hint=f"run it from a terminal{instead}",
                        ref="no-terminal",
                    )
                self._answers[prompt] = _typed(prompt)
            return self._answers[prompt]

    def forget(self, prompt: str) -> None:
        """Drop a wrong answer."""
        with self._lock:
            self._answers.pop(prompt, None)


def give_back_terminal() -> None:
    """Let the terminal show again what is typed, if a question has changed that and still waits.

    Questions are asked in threads, which Ctrl-C does not reach and which end with the program.
    """
    import termios

    for settings in _settings:
        with contextlib.suppress(OSError, termios.error), open("/dev/tty", "rb", 0) as terminal:
            termios.tcsetattr(terminal, termios.TCSANOW, settings)


def _typed(prompt: str) -> str:
    """A line from the terminal, without echo."""
    import getpass
    import termios

    with open("/dev/tty", "rb", 0) as terminal:
        _settings.append(termios.tcgetattr(terminal))
    try:
        return getpass.getpass(prompt)
    finally:
        _settings.pop()
