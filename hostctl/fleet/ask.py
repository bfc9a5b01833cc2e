"""Runs on the controller: asks the person at the terminal for secrets, each one once per run."""

from __future__ import annotations

import threading

from hostctl_host.contract.errors import HostctlError


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
        return self.secret("SSH password: ") if self.ssh_password else ""

    def become(self) -> str:
        """The sudo password for all hosts, or "" where it was not to be asked for."""
        return self.secret("sudo password: ") if self.become_password else ""

    def can_ask(self) -> bool:
        """Whether there is a terminal to ask on."""
        try:
            with open("/dev/tty", "rb"):
                return True
        except OSError:
            return False

    def secret(self, prompt: str) -> str:
        """The answer to the prompt, typed without echo; asked only the first time.

        Raises:
            HostctlError: there is no terminal.
        """
        with self._lock:
            if prompt not in self._answers:
                if not self.can_ask():
                    raise HostctlError(
                        f"cannot ask for the {prompt.rstrip(': ')}: there is no terminal",
                        hint="run it from a terminal, or give the secret as a variable from a vault",
                        ref="no-terminal",
                    )
                import getpass

                self._answers[prompt] = getpass.getpass(prompt)
            return self._answers[prompt]

    def forget(self, prompt: str) -> None:
        """Drop a wrong answer."""
        with self._lock:
            self._answers.pop(prompt, None)
