"""Runs on the managed host: content by digest: what is here is never sent again.

An apply keeps blobs in DATA/blobs (those of `no_log` resources in RUN/blobs); a plan keeps them in memory.
Received blobs are checked on the way in and again when read, so they need no fsync: a broken one is
fetched again. What `undo` keeps exists nowhere else and is synced.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from typing import Any, BinaryIO

from ..contract.document import digest as digest_of
from ..contract.errors import HostctlError
from .channel import Channel, ControllerGone
from .files import private_folder, write_atomic
from .host import Paths

_PATIENCE = 300.0


class Content:
    """The blobs of one run.

    Args:
        stored: False keeps everything in memory (plan mode).
    """

    def __init__(self, paths: Paths, channel: Channel, stored: bool) -> None:
        self._folder = os.path.join(paths.data, "blobs")
        self._secret_folder = os.path.join(paths.run, "blobs")
        self._channel = channel
        self._stored = stored
        self._secret: set[str] = set()
        self._memory: dict[str, bytes] = {}
        self._asked: set[str] = set()
        self._checked: set[str] = set()
        self._noted: set[str] | None = None
        self._incoming: dict[str, tuple[BinaryIO | bytearray, Any, int]] = {}
        self._failed: dict[str, str] = {}
        self._arrived = threading.Condition()
        channel.on("blob", self._receive)
        channel.on_gone(self._wake)

    def mark_secret(self, digests: Iterable[str]) -> None:
        """These belong to `no_log` resources: they stay in the run folder and do not outlive the run."""
        self._secret.update(digests)

    def note_missing(self, noted: set[str] | None) -> None:
        """Until called with None: `blob` puts what is missing into `noted` and returns nothing for it.

        So one `need` asks for the content of all resources that differ, in one round trip.
        """
        self._noted = noted

    def blob(self, digest: str) -> bytes:
        """The blob's bytes, fetched from the controller if they are not here."""
        data = self._read(digest)
        if data is not None:
            return data
        if self._noted is not None:
            self._noted.add(digest)
            return b""
        self.fetch((digest,))
        data = self._read(digest)
        if data is None:
            raise HostctlError(f"cannot read blob {digest[:12]}: it vanished", ref="blob-lost")
        return data

    def keep(self, data: bytes) -> str:
        """Keep bytes that only this host has, for an undo."""
        name = digest_of(data)
        path = os.path.join(self._folder, name)
        if self._read_file(path, name) is None:
            private_folder(self._folder)
            write_atomic(path, data)
        return name

    def ask(self, digests: Iterable[str]) -> None:
        """Ask for those that are missing, without waiting for them."""
        with self._arrived:
            missing = sorted(d for d in set(digests) if d not in self._asked and not self._has(d))
            self._asked.update(missing)
        if missing:
            self._channel.send("need", digests=missing)

    def fetch(self, digests: Iterable[str]) -> None:
        """Have all of them here.

        Raises:
            ControllerGone: the controller left before they came.
            HostctlError: a blob came damaged, or none came for minutes.
        """
        wanted = set(digests)
        self.ask(wanted)
        with self._arrived:
            while True:
                for name in wanted & self._failed.keys():
                    raise HostctlError(self._failed[name], ref="blob-damaged")
                if not any(name in self._asked for name in wanted):
                    return
                if self._channel.gone:
                    raise ControllerGone
                if not self._arrived.wait(_PATIENCE):
                    raise HostctlError(
                        f"cannot get content from the controller: nothing came for {_PATIENCE:g} s",
                        ref="blob-timeout",
                    )

    def forget(self, digests: Iterable[str]) -> None:
        """Drop blobs that are kept elsewhere now (an image's layers in the store)."""
        for name in digests:
            self._memory.pop(name, None)
            _unlink(os.path.join(self._folder, name))

    def drop_secrets(self) -> None:
        """Remove the content of `no_log` resources at the end of a run."""
        for name in self._secret:
            _unlink(os.path.join(self._secret_folder, name))

    def sweep(self, referenced: set[str] | None = None) -> None:
        """Remove unfinished blobs and, given what ledgers and generations name, all others.

        Without it, as a run begins, secret ones are those that a killed run could not drop.
        """
        for folder in (self._folder, self._secret_folder):
            try:
                names = os.listdir(folder)
            except FileNotFoundError:
                continue
            for name in names:
                stale = referenced is not None and name not in referenced
                secret = folder == self._secret_folder
                if (
                    name.startswith(".")
                    or (stale and not secret)
                    or (secret and referenced is None)
                ):
                    _unlink(os.path.join(folder, name))

    def _folder_of(self, digest: str) -> str:
        return self._secret_folder if digest in self._secret else self._folder

    def _has(self, digest: str) -> bool:
        if digest in self._memory:
            return True
        if digest in self._checked:
            return os.path.exists(os.path.join(self._folder_of(digest), digest))
        return self._read(digest) is not None

    def _read(self, digest: str) -> bytes | None:
        if digest in self._memory:
            return self._memory[digest]
        return self._read_file(os.path.join(self._folder_of(digest), digest), digest)

    def _read_file(self, path: str, digest: str) -> bytes | None:
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except OSError:
            return None
        if digest_of(data) != digest:
            return None
        self._checked.add(digest)
        return data

    def _receive(self, header: dict[str, Any], body: bytes) -> None:
        """One chunk, in the channel's reading thread."""
        name = header["digest"]
        try:
            if name not in self._asked:
                return  # a late chunk of a blob that failed
            sink, total, offset = self._incoming.get(name) or self._open(name)
            if header.get("offset", 0) != offset:
                raise ValueError(f"a part is missing at byte {offset}")
            sink.write(body) if not isinstance(sink, bytearray) else sink.extend(body)
            total.update(body)
            self._incoming[name] = (sink, total, offset + len(body))
            if header.get("last"):
                self._finish(name, sink, total.hexdigest())
        except (OSError, ValueError) as error:
            self._close(name, f"cannot receive blob {name[:12]}: {error}")

    def _open(self, name: str) -> tuple[BinaryIO | bytearray, Any, int]:
        if len(name) != 64 or not name.isalnum():
            raise ValueError("no sha256 digest")
        if not self._stored:
            return bytearray(), hashlib.sha256(), 0
        folder = self._folder_of(name)
        private_folder(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(os.path.join(folder, f".{name}.part"), flags, 0o600)
        return os.fdopen(fd, "wb"), hashlib.sha256(), 0

    def _finish(self, name: str, sink: BinaryIO | bytearray, found: str) -> None:
        if found != name:
            raise ValueError("its digest differs from its name")
        if isinstance(sink, bytearray):
            self._memory[name] = bytes(sink)
        else:
            sink.close()
            path = os.path.join(self._folder_of(name), name)
            os.rename(f"{os.path.dirname(path)}/.{name}.part", path)
            self._checked.add(name)
        self._close(name, "")

    def _close(self, name: str, failure: str) -> None:
        sink = self._incoming.pop(name, (None, None, 0))[0]
        if sink is not None and not isinstance(sink, bytearray) and not sink.closed:
            sink.close()
            _unlink(os.path.join(self._folder_of(name), f".{name}.part"))
        with self._arrived:
            self._asked.discard(name)
            if failure:
                self._failed[name] = failure
            self._arrived.notify_all()

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
