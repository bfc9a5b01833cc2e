"""Runs on the controller: speaks with `docker-credential-NAME` programs: get, store, erase; secrets go through pipes.

The protocol: https://github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import json
import re

from hostctl_host.contract.errors import HostctlError

from ..fleet.process import run

_TIMEOUT = 60.0
"""Seconds; some of them ask the person at the screen."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IDENTITY = "<token>"
"""In the place of a user this says that the secret is an identity token."""


def get(name: str, server: str) -> dict[str, str] | None:
    """The login that a helper has for a server; None if it has none.

    Raises:
        HostctlError: `credential-helper`.
    """
    code, output = _speak(name, "get", server)
    if code != 0:
        # The words that Docker's own library tests for.
        if "not found" in output or "missing" in output:
            return None
        raise _error(name, output)
    try:
        answer = json.loads(output)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise _error(name, "its answer is not what the protocol says") from None
    if user == _IDENTITY:
        return {"identitytoken": secret}
    return {"username": user, "password": secret}


def store(name: str, server: str, login: dict[str, str]) -> None:
    """Give a login to a helper. Raises HostctlError."""
    value = {"ServerURL": server, "Username": login["username"], "Secret": login["password"]}
    code, output = _speak(name, "store", json.dumps(value))
    if code != 0:
        raise _error(name, output)


def erase(name: str, server: str) -> None:
    """Have a helper forget a login; one that it has not is fine. Raises HostctlError."""
    code, output = _speak(name, "erase", server)
    if code != 0 and "not found" not in output:
        raise _error(name, output)


def _speak(name: str, action: str, text: str) -> tuple[int, str]:
    if not _NAME.fullmatch(name):
        raise _error(name, "that is no name of a program")
    try:
        done = run([f"docker-credential-{name}", action], _TIMEOUT, text.encode())
    except TimeoutError:
        raise _error(name, f"it takes more than {_TIMEOUT:.0f} s") from None
    except FileNotFoundError:
        raise _error(name, "it is not installed") from None
    except OSError as error:
        raise _error(name, error.strerror or str(error)) from None
    # A helper says on stdout why it failed; what it prints when it succeeds is secret.
    return done.code, done.output.strip()


def _error(name: str, cause: str) -> HostctlError:
    line = " ".join((cause.splitlines() or ["it says nothing"])[0].split())[:200]
    return HostctlError(
        f"cannot ask docker-credential-{name}: {line}",
        hint="install or repair it, or take it out of credsStore and credHelpers",
        ref="credential-helper",
    )
