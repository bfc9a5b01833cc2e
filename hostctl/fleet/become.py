"""Runs on the controller: sudo around a command on a host; the password goes to stdin, after the prompt."""

from __future__ import annotations

import os
import re
import shlex
import time

from hostctl_host.contract.errors import HostctlError

from .stream import Connection, Stream
from .target import Target

# $0 is the script and "$@" its arguments. Who is root already needs no sudo (minimal hosts lack it).
_WRAPPER = (
    'if [ "$(id -u)" = 0 ] && [ {user} = root ]; then exec sh -c "$0" hostctl "$@"; fi; '
    "command -v sudo >/dev/null 2>&1 || {{ echo hostctl-become NOSUDO >&2; exit 126; }}; "
    'LC_ALL=C exec sudo {options} -H -u {user} -- sh -c "$0" hostctl "$@"'
)


class BecomeFailed(HostctlError):
    """sudo did not let the user act as another."""


def run(connection: Connection, target: Target, script: str, args: tuple[str, ...]) -> Stream:
    """Run `sh -c script hostctl args...` as the target's user."""
    if not target.become:
        return connection.run(_command(script, *args))
    prompt = f"[hostctl-{os.urandom(8).hex()}] password:"
    # -S reads the password from stdin, and only if a password is needed: the prompt says so
    options = f"-S -p {shlex.quote(prompt)}"
    wrapper = _WRAPPER.format(user=shlex.quote(target.become_user), options=options)
    stream = connection.run(
        f"exec sh -c {shlex.quote(wrapper)} {shlex.quote(script)} {_quoted(args)}"
    )
    return SudoStream(stream, target, prompt)


def _command(script: str, *args: str) -> str:
    return f"exec sh -c {shlex.quote(script)} hostctl {_quoted(args)}"


def _quoted(args: tuple[str, ...]) -> str:
    return " ".join(map(shlex.quote, args))


class SudoStream:
    """A stream that answers sudo's prompt on stderr until the program itself speaks."""

    def __init__(self, inner: Stream, target: Target, prompt: str) -> None:
        self._inner = inner
        self._target = target
        self._prompt = prompt.encode()
        self._answered = 0
        self._open = False

    def start(self, timeout: float, password: str) -> None:
        """Wait until the program runs (its first output) and keep that output for `read`.

        Raises:
            BecomeFailed: refused, wrong password, password needed.
        """
        self._first = b""
        deadline = time.monotonic() + timeout
        while not self._open:
            try:
                self._first = self._inner.read(0.02 if self._answered == 0 else 0.1)
                self._open = True
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
            self._answer(password)

    def _answer(self, password: str) -> None:
        asked = self._inner.errors().count(self._prompt)
        if asked <= self._answered or (self._open and self._first):
            return
        self._answered = asked
        target = self._target
        if not password:
            self.close()
            raise BecomeFailed(
                f"cannot become {target.become_user} on {target.name}: sudo needs a password",
                hint="give it with -K, or set ansible_become_password (from a vault)",
                ref="sudo-password-needed",
            )
        if asked > 1:
            self.close()
            raise BecomeFailed(
                f"cannot become {target.become_user} on {target.name}: wrong sudo password",
                hint="check ansible_become_password, or give it with -K",
                ref="sudo-wrong-password",
            )
        self._inner.write(password.encode() + b"\n")

    def explain(self) -> None:
        """The program ended before it said anything: if that was sudo, say what it said."""
        text = self.errors().decode(errors="replace")
        target = self._target
        start = f"cannot become {target.become_user} on {target.name}: "
        if "hostctl-become NOSUDO" in text:
            raise BecomeFailed(
                f"{start}there is no sudo on the host",
                hint="install sudo there, or connect as root (ansible_user: root)",
                ref="sudo-missing",
            )
        said = [
            line for line in text.splitlines() if re.search(r"\bsudo\b|sudoers|not allowed", line)
        ]
        if said:
            raise BecomeFailed(
                f"{start}sudo refused: {said[-1].strip().removeprefix('sudo: ')}",
                hint="allow it in sudoers (visudo) there, or set ansible_become: false",
                ref="sudo-refused",
            )

    def read(self, timeout: float) -> bytes:
        if self._first:
            data, self._first = self._first, b""
            return data
        return self._inner.read(timeout)

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def errors(self) -> bytes:
        return self._inner.errors().replace(self._prompt, b"")

    def end(self) -> None:
        self._inner.end()

    def exit_code(self, timeout: float) -> int | None:
        return self._inner.exit_code(timeout)

    def close(self) -> None:
        self._inner.close()
