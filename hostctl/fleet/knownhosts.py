"""Runs on the controller: OpenSSH's known_hosts files: who may answer at an address.

Read here and not by the SSH library because an error has to name the file and the line.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from hostctl_host.contract.errors import HostctlError

from .target import Unreachable

_write_lock = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """One line: a key that is good (or revoked) for the hosts that the pattern matches."""

    patterns: str
    key_type: str
    key: bytes
    place: str
    revoked: bool = False

    def matches(self, name: str) -> bool:
        """Whether the line is about `host` or `[host]:port`."""
        if self.patterns.startswith("|1|"):
            return _hashed(name, self.patterns)
        matched = False
        for pattern in self.patterns.lower().split(","):
            negated, bare = pattern.startswith("!"), pattern.lstrip("!")
            literal = bare.replace("[", "[[]") if bare.startswith("[") else bare
            if fnmatch.fnmatchcase(name.lower(), literal):
                if negated:
                    return False
                matched = True
        return matched


@dataclass(frozen=True)
class KnownHosts:
    """The files that say which keys are good, and what to do about an unknown one.

    Attributes:
        files: in order; a new key goes into the first.
        policy: StrictHostKeyChecking: `yes`, `accept-new` or `no`.
        hashed: HashKnownHosts.
    """

    files: tuple[str, ...]
    policy: str = "yes"
    hashed: bool = False

    def entries(self, name: str) -> list[Entry]:
        """The lines about this `host` or `[host]:port`."""
        return [entry for path in self.files for entry in _load(path) if entry.matches(name)]

    def verify(self, name: str, key_type: str, key: bytes, who: str, way: str = "") -> bool:
        """Check the key that the host showed.

        Args:
            name: `host` or `[host]:port`.
            who: the host in messages.
            way: the words that log in to the jump host before it.
        Returns:
            False where the policy let a wrong key pass: then no password may be sent.
        Raises:
            Unreachable: unknown or wrong key.
        """
        entries = self.entries(name)
        same = [entry for entry in entries if entry.key == key]
        for entry in same:
            if entry.revoked:
                raise Unreachable(
                    f"cannot trust {who}: its key {fingerprint(key)} is revoked in {entry.place}",
                    hint="do not connect; ask who runs the host",
                    ref="host-key-revoked",
                )
        good = [entry for entry in entries if not entry.revoked]
        if same:
            return True
        if good:
            if self.policy == "no":
                return False
            entry = next((entry for entry in good if entry.key_type == key_type), good[0])
            raise Unreachable(
                f"cannot trust {who}: its key is {key_type} {fingerprint(key)}, but {entry.place} "
                f"says {entry.key_type} {fingerprint(entry.key)}",
                hint="someone may be listening in. If the host was set up anew, type: "
                f"ssh-keygen -f {entry.place.rpartition(':')[0]} -R '{name}'",
                ref="host-key-changed",
            )
        if self.policy in ("accept-new", "no"):
            self.record(name, key_type, key)
            return True
        raise Unreachable(
            f"cannot trust {who}: its key {key_type} {fingerprint(key)} is unknown",
            hint=f"compare the fingerprint, then type: {_keyscan(name, way)} >> {self.files[0]}"
            " (or set StrictHostKeyChecking accept-new in ~/.ssh/config)",
            ref="host-key-unknown",
        )

    def record(self, name: str, key_type: str, key: bytes) -> None:
        """Add the key to the first file."""
        path = os.path.expanduser(self.files[0])
        if path == os.devnull:
            return
        shown = _hash(name, os.urandom(20)) if self.hashed else name
        line = f"{shown} {key_type} {base64.b64encode(key).decode()}\n"
        with _write_lock:
            if any(entry.key == key for entry in self.entries(name)):
                return
            try:
                Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
                with open(descriptor, "rb+", buffering=0) as stream:
                    if stream.seek(0, os.SEEK_END):
                        stream.seek(-1, os.SEEK_END)
                        line = line if stream.read(1) == b"\n" else f"\n{line}"
                    stream.write(line.encode())
            except OSError as error:
                raise HostctlError(
                    f"cannot record the host key in {path}: {error.strerror}", ref="host-key-record"
                ) from error


def host_name(host: str, port: int) -> str:
    """The name in known_hosts: `host`, or `[host]:port` where the port is not 22."""
    return host if port == 22 else f"[{host}]:{port}"


def fingerprint(key: bytes) -> str:
    """SHA256 fingerprint as `ssh-keygen -l` prints it."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def _keyscan(name: str, way: str) -> str:
    """What prints the key; behind a jump host only that one can ask for it."""
    host, port = name, ""
    if name.startswith("["):
        host, _, port = name[1:].rpartition("]:")
    return " ".join([*([way] if way else []), "ssh-keyscan", *(["-p", port] if port else []), host])


_cache: dict[tuple[str, int, int], list[Entry]] = {}


def _load(path: str) -> list[Entry]:
    """The file's lines, parsed once while it does not change; a missing file has none."""
    path = os.path.expanduser(path)
    try:
        status = os.stat(path)
        key = (path, status.st_mtime_ns, status.st_size)
        if key not in _cache:
            text = Path(path).read_text(errors="replace")
            _cache[key] = [
                entry
                for number, line in enumerate(text.splitlines(), 1)
                if (entry := _parse(line, f"{path}:{number}"))
            ]
        return _cache[key]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostctlError(
            f"cannot read {path}: {error.strerror}", ref="known-hosts-unreadable"
        ) from error


def _parse(line: str, place: str) -> Entry | None:
    words = line.split()
    revoked = False
    if words and words[0].startswith("@"):
        if words.pop(0) != "@revoked":
            return None  # @cert-authority: host certificates are not used
        revoked = True
    if len(words) < 3 or words[0].startswith("#"):
        return None
    try:
        return Entry(words[0], words[1], base64.b64decode(words[2]), place, revoked)
    except ValueError:
        return None


def _hash(name: str, salt: bytes) -> str:
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _hashed(name: str, pattern: str) -> bool:
    try:
        salt = base64.b64decode(pattern.split("|")[2])
    except (ValueError, IndexError):
        return False
    return _hash(name.lower(), salt) == pattern
