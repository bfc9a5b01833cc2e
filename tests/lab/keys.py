"""Runs on the test machine: the SSH key that opens every lab host, and the hosts' own keys."""

from __future__ import annotations

from pathlib import Path

from .paths import CACHE
from .shell import locked, run


def client_key() -> Path:
    """The private key whose public half every user of every lab host accepts."""
    return _key(CACHE / "keys" / "id_ed25519")


def other_key() -> Path:
    """A private key that no lab host accepts."""
    return _key(CACHE / "keys" / "id_other")


def host_key(name: str) -> Path:
    """The host key of the lab host of this name."""
    return _key(CACHE / "keys" / f"host_{name}")


def public(key: Path) -> str:
    """`ssh-ed25519 AAAA...`, without the comment."""
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


def _key(path: Path) -> Path:
    with locked(path.with_suffix(".lock")):
        if not path.with_suffix(".pub").exists():
            path.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hostctl-lab", "-f", path])
    return path
