"""Runs on the controller: logging in to an SSH server: which keys and passwords, in which order.

The SSH library comes in as an argument: only `ssh.py` imports it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from hostctl_host.contract.errors import HostctlError

from .ask import Asker
from .keys import Identity, identities
from .sshconfig import Hop
from .target import Unreachable


class Passwords:
    """Where the password for the last hop comes from: the variable, or a question asked once."""

    def __init__(self, given: str = "", asker: Asker | None = None) -> None:
        self._given = given
        self.asker = asker

    def get(self) -> str:
        return self._given or (self.asker.ssh() if self.asker else "")


def login(transport: Any, hop: Hop, passwords: Passwords, deadline: float, library: Any) -> None:
    """Try keys and the password in the order that costs the fewest refused attempts."""
    tried: list[str] = []
    allowed: set[str] = set()
    password_refused = False

    def attempt(identity: Identity | None, password: str) -> bool:
        transport.auth_timeout = max(0.1, deadline - time.monotonic())
        try:
            if identity is not None:
                rest = transport.auth_publickey(hop.user, identity.load())
            else:
                rest = transport.auth_password(hop.user, password)
            allowed.clear()
            allowed.update(rest)
            return not rest
        except library.BadAuthenticationType as error:
            allowed.clear()
            allowed.update(error.allowed_types)
        except library.AuthenticationException as error:
            if not transport.is_active() or "timeout" in str(error).lower():
                raise
        return False

    try:
        for identity in _credentials(hop, passwords, transport, library):
            ways = (
                {"password", "keyboard-interactive"} if isinstance(identity, str) else {"publickey"}
            )
            if allowed and not allowed & ways:
                continue
            if isinstance(identity, str):
                if attempt(None, identity):
                    return
                password_refused = True
            else:
                tried.append(identity.label)
                if attempt(identity, ""):
                    return
    except HostctlError:
        raise
    except Exception as error:
        if time.monotonic() >= deadline - 0.2:
            raise Unreachable(
                f"cannot log in to {hop.who} as {hop.user}: no answer in time",
                hint="a longer limit: --timeout",
                ref="unreachable",
            ) from error
        if not tried and not password_refused:
            raise Unreachable(
                f"cannot log in to {hop.who}: {cause(error)}", ref="login-refused"
            ) from error
    if password_refused:
        raise Unreachable(
            f"cannot log in to {hop.who} as {hop.user}: the password was refused",
            hint="check ansible_password and ansible_user, or ask for it with -k",
            ref="wrong-password",
        )
    keys = (
        f"none of the keys was accepted ({', '.join(tried)})" if tried else "there is no key to try"
    )
    raise Unreachable(
        f"cannot log in to {hop.who} as {hop.user}: {keys}",
        hint=_key_hint(hop),
        ref="login-refused",
    )


def _key_hint(hop: Hop) -> str:
    if hop.is_jump:
        return (
            f"can you log in yourself? type: ssh -p {hop.port} {hop.user}@{hop.host}. Name its key "
            "with IdentityFile in ~/.ssh/config: variables are for the host behind it"
        )
    jump = f"-o ProxyCommand='{hop.way} -W %h:%p' " if hop.way else ""
    return (
        f"type: ssh-copy-id {jump}-p {hop.port} {hop.user}@{hop.host}, or set "
        "ansible_ssh_private_key_file, or ask for a password with -k"
    )


def _credentials(
    hop: Hop, passwords: Passwords, transport: Any, library: Any
) -> Iterator[Identity | str]:
    """Named keys, then the password if there is one, then the agent's and the default keys."""
    explicit, others = identities(hop, passwords.asker, library)
    yield from explicit
    password = passwords.get()
    if password:
        if not getattr(transport, "may_send_password", True):
            raise Unreachable(
                f"cannot send a password to {hop.who}: its host key is wrong",
                hint="remove the old key with ssh-keygen -R, or log in with a key",
                ref="host-key-changed",
            )
        yield password
    yield from others()


def cause(error: BaseException) -> str:
    """What the SSH library says, in a form that fits behind a colon."""
    text = str(getattr(error, "text", "") or error).strip().rstrip(".")
    if not text or isinstance(error, EOFError):
        return "the connection was closed"
    return text[0].lower() + text[1:] if not text[:2].isupper() else text
