"""Runs on the managed host: where the values of secrets and configs lie, and what may be told of them.

A secret's value is a file of the run folder (RUN/secrets/NAME, 0600), which is memory and does not survive a
reboot. Where systemd runs the host, a copy that only this host can open lies in the data folder. A config
is no secret: DATA/configs/NAME/value; one that was made from something secret is kept as a secret is.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from ..contract.document import digest as digest_of
from ..contract.errors import HostctlError
from .files import private_folder, read_json, write_atomic, write_json
from .host import Paths
from .ledger import Redactor

FOLDERS = {"secret": "secrets", "config": "configs"}
# sd_booted(3): only such hosts have a key of their own to seal with.
SYSTEMD = "/run/systemd/system"
CREDS = "systemd-creds"
_SEAL_SECONDS = 30


def find(paths: Paths, kind: str, name: str) -> str | None:
    """Where the value is, for whoever starts a container; brought back from its sealed copy if need be.

    Args:
        kind: `secret` or `config`.
    Returns:
        The path of a file with the value, or None: it has to be applied again.
    """
    found = record(paths, kind, name)
    if found is None:
        return None
    path = _value(paths, kind, name, bool(found["hidden"]))
    if os.path.exists(path):
        return path
    data = _unseal(paths, kind, name)
    if data is None:
        return None
    _write(path, data)
    return path


def at_hand(paths: Paths, kind: str, name: str) -> bool:
    """Whether `find` would have something to return; reads only."""
    found = record(paths, kind, name)
    if found is None:
        return False
    path = _value(paths, kind, name, bool(found["hidden"]))
    return os.path.exists(path) or os.path.exists(_sealed(paths, kind, name))


def record(paths: Paths, kind: str, name: str) -> dict[str, Any] | None:
    """What is known of it: `mark`, `hidden`, `labels`, `project`; None where there is none."""
    found = read_json(os.path.join(_folder(paths, kind, name), "record.json"))
    return found if isinstance(found, dict) else None


def read(paths: Paths, kind: str, name: str, hidden: bool) -> bytes | None:
    """The value that is there now, or None."""
    try:
        with open(_value(paths, kind, name, hidden), "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def mark(paths: Paths, digest: str, hidden: bool) -> str:
    """What tells one value from another: its digest, or of a secret a hash that only this host can make.

    Empty where the host has no key yet, and so no secret either.
    """
    if not hidden or not digest:
        return digest
    redactor = Redactor(paths)
    return redactor.hash(b"value " + digest.encode()) if redactor.ready else ""


def store(
    paths: Paths,
    kind: str,
    name: str,
    data: bytes,
    *,
    hidden: bool,
    labels: dict[str, str],
    project: str,
) -> None:
    """Keep the value. Its record comes last: without it, or with another mark in it, it is stored anew."""
    folder = _folder(paths, kind, name)
    private_folder(folder)
    _forget(_value(paths, kind, name, not hidden))
    _forget(_sealed(paths, kind, name))
    if hidden:
        Redactor(paths).hash(b"")  # there is a key from now on
        _seal(paths, kind, name, data)
    _write(_value(paths, kind, name, hidden), data)
    value = {
        "mark": mark(paths, digest_of(data), hidden),
        "hidden": hidden,
        "labels": labels,
        "project": project,
    }
    write_json(os.path.join(folder, "record.json"), value)


def remove(paths: Paths, kind: str, name: str) -> None:
    """Remove value, sealed copy and record; twice is fine."""
    for hidden in (True, False):
        _forget(_value(paths, kind, name, hidden))
    shutil.rmtree(_folder(paths, kind, name), ignore_errors=True)


def _folder(paths: Paths, kind: str, name: str) -> str:
    return os.path.join(paths.data, FOLDERS[kind], name)


def _sealed(paths: Paths, kind: str, name: str) -> str:
    return os.path.join(_folder(paths, kind, name), "sealed")


def _value(paths: Paths, kind: str, name: str, hidden: bool) -> str:
    if hidden:
        return os.path.join(paths.run, FOLDERS[kind], name)
    return os.path.join(_folder(paths, kind, name), "value")


def _write(path: str, data: bytes) -> None:
    private_folder(os.path.dirname(path))
    write_atomic(path, data)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _seal(paths: Paths, kind: str, name: str, data: bytes) -> None:
    """Leave a copy that `_unseal` can open after a reboot, where the host can make one.

    With the host's key and not the TPM's: what that one has sealed is lost with an update of the firmware.
    """
    if not os.path.isdir(SYSTEMD):
        return
    from base64 import b64encode

    from .run import run

    argv = [CREDS, "encrypt", "--with-key=host", f"--name={name}", "-", "-"]
    try:
        done = run(argv, input=b64encode(data), timeout=_SEAL_SECONDS)
    except HostctlError:
        return  # systemd before version 250, or without this program: as on other hosts
    if done.code == 0:
        write_atomic(_sealed(paths, kind, name), done.stdout.encode())


def _unseal(paths: Paths, kind: str, name: str) -> bytes | None:
    sealed = _sealed(paths, kind, name)
    if not os.path.exists(sealed):
        return None
    from base64 import b64decode

    from .run import run

    try:
        done = run([CREDS, "decrypt", f"--name={name}", sealed, "-"], timeout=_SEAL_SECONDS)
        return b64decode(done.stdout, validate=True) if done.code == 0 else None
    except (HostctlError, ValueError):
        return None
