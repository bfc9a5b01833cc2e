"""Runs on the controller: private keys for SSH logins: named files, the agent's, the default files."""

from __future__ import annotations

import base64
import functools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError

from .ask import Asker
from .sshconfig import Hop

_lock = threading.Lock()
_loaded: dict[str, Any] = {}


@dataclass(frozen=True)
class Identity:
    """One key to try: `load` gives the SSH library's key object."""

    label: str
    load: Callable[[], Any]


def identities(
    hop: Hop, asker: Asker | None, library: Any
) -> tuple[list[Identity], Callable[[], Iterator[Identity]]]:
    """The keys that were named for the hop, and a function that goes through all others.

    The agent is only spoken to when a named key is encrypted or none was accepted.

    Raises:
        HostctlError: a named key file is missing, unreadable or no key.
    """
    named = [
        Identity(path, functools.partial(_named, path, hop, asker, library))
        for path in hop.keys
        if os.path.exists(path) or path == hop.keys[0]
    ]

    def others() -> Iterator[Identity]:
        if not hop.identities_only:
            for key in _agent_keys(hop, library):
                yield Identity(
                    f"agent:{key.comment or key.get_name()}", functools.partial(_same, key)
                )
        for path in hop.default_keys:
            key = _default(path, hop, asker, library)
            if key is not None:
                yield Identity(path, functools.partial(_same, key))

    return named, others


def _same(key: Any) -> Any:
    return key


def _named(path: str, hop: Hop, asker: Asker | None, library: Any) -> Any:
    with _lock:
        if path not in _loaded:
            _loaded[path] = _read(path, hop, asker, library)
        return _loaded[path]


def _default(path: str, hop: Hop, asker: Asker | None, library: Any) -> Any:
    """A default key, or None where it is missing or locked with nobody to ask."""
    if not os.path.exists(path):
        return None
    try:
        return _named(path, hop, asker, library)
    except HostctlError:
        if asker is not None and asker.can_ask():
            raise
        return None


def _read(path: str, hop: Hop, asker: Asker | None, library: Any) -> Any:
    try:
        return library.PKey.from_path(path)
    except FileNotFoundError as error:
        raise HostctlError(
            f"cannot find the SSH key {path}",
            where=hop.label,
            hint="check ansible_ssh_private_key_file and IdentityFile",
            ref="key-missing",
        ) from error
    except OSError as error:
        raise HostctlError(
            f"cannot read the SSH key {path}: {error.strerror}",
            where=hop.label,
            ref="key-unreadable",
        ) from error
    except Exception as error:
        if not _is_encrypted(path, error):
            raise HostctlError(
                f"cannot use the SSH key {path}: {error}",
                where=hop.label,
                hint="it must be a private key of type ed25519, ecdsa or rsa",
                ref="key-unusable",
            ) from error
    public = _public_blob(path)
    for key in _agent_keys(hop, library):
        if key.asbytes() == public:
            return key
    prompt = f"Passphrase for {path}: "
    if asker is None or not asker.can_ask():
        raise HostctlError(
            f"cannot use the SSH key {path}: it has a passphrase and there is no terminal to ask on",
            where=hop.label,
            hint=f"type: ssh-add {path}",
            ref="passphrase-needed",
        )
    for attempt in range(3):
        passphrase = asker.secret(prompt).encode()
        try:
            return library.PKey.from_path(path, passphrase)
        except Exception as error:
            asker.forget(prompt)
            if attempt == 2:
                raise HostctlError(
                    f"cannot use the SSH key {path}: wrong passphrase",
                    where=hop.label,
                    hint=f"type: ssh-add {path}",
                    ref="wrong-passphrase",
                ) from error
    raise AssertionError("not reached")


def read_plain(path: str, library: Any) -> Any:
    """The key of a file that has no passphrase.

    Raises:
        HostctlError: it is none, or nobody may read it.
    """
    try:
        return library.PKey.from_path(path)
    except Exception as error:
        if _is_encrypted(path, error):
            raise HostctlError(
                f"cannot use the SSH key {path}: it has a passphrase",
                hint=f"type: ssh-add {path}, and name the agent instead of the file",
                ref="passphrase-needed",
            ) from error
        raise HostctlError(
            f"cannot use the SSH key {path}: {error}",
            hint="it must be a private key of type ed25519, ecdsa or rsa",
            ref="key-unusable",
        ) from error


def _is_encrypted(path: str, error: Exception) -> bool:
    return "encrypt" in str(error).lower() or "password" in str(error).lower()


def _public_blob(path: str) -> bytes:
    try:
        return base64.b64decode(Path(f"{path}.pub").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return b""


def _agent_keys(hop: Hop, library: Any) -> list[Any]:
    """The agent's keys over a connection of their own (an agent connection is not thread-safe)."""
    if not hop.agent:
        return []
    before = os.environ.get("SSH_AUTH_SOCK")
    if before != hop.agent:
        return []  # the library finds the agent through the environment only
    try:
        return list(library.Agent().get_keys())
    except Exception:
        return []
