"""Runs on the managed host: what a run is about to do, written before it does it.

Lines are appended, so a kill leaves all but the last one whole. A leftover journal tells the next run what
may exist although no ledger names it, and which handlers were notified and have not run.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from typing import Any

from .files import private_folder, write_atomic


class Journal:
    """The journal of one project. The file exists only while, and after, something was done.

    Attributes:
        intents: resource id -> its ledger entry as JSON, of an earlier run that did not end.
        notified: names of handlers that an earlier run owes.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.intents: dict[str, dict[str, Any]] = {}
        self.notified: list[str] = []
        self._fd = -1
        self._load()

    def intend(self, entries: dict[str, dict[str, Any]]) -> None:
        """These resources are about to be touched for the first time."""
        self._append([{"intent": name, "entry": entry} for name, entry in entries.items()], True)

    def act(self, resource: str, notify: Iterable[str]) -> None:
        """The resource is about to change; if the end is never written, its handlers are owed."""
        names = list(notify)
        self._append([{"act": resource, "notify": names}], bool(names))

    def done(self, resource: str, changed: bool) -> None:
        self._append([{"done": resource, "changed": changed}], False)

    def ran(self, handler: str) -> None:
        self._append([{"ran": handler}], False)

    def close(self, owed: Iterable[str]) -> None:
        """Everything is in the ledger now: keep only the handlers that are still owed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        names = list(owed)
        if names:
            private_folder(os.path.dirname(self.path))
            write_atomic(self.path, json.dumps({"act": "", "notify": names}).encode() + b"\n")
        else:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass

    def _load(self) -> None:
        try:
            with open(self.path, "rb") as stream:
                lines = stream.read().split(b"\n")
        except FileNotFoundError:
            return
        open_acts: dict[str, list[str]] = {}
        owed: list[str] = []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            if "intent" in record:
                self.intents[record["intent"]] = record["entry"]
            elif "act" in record:
                open_acts.setdefault(record["act"], []).extend(record["notify"])
            elif "done" in record:
                names = open_acts.pop(record["done"], [])
                owed += names if record["changed"] else []
            elif "ran" in record:
                owed = [name for name in owed if name != record["ran"]]
        for names in open_acts.values():
            owed += names
        self.notified = list(dict.fromkeys(owed))

    def _append(self, records: list[dict[str, Any]], durable: bool) -> None:
        if not records:
            return
        if self._fd < 0:
            private_folder(os.path.dirname(self.path))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
        # A line that a kill or a full disk cut off must not swallow the next one.
        data = b"\n" + b"".join(json.dumps(record).encode() + b"\n" for record in records)
        if os.write(self._fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        if durable:
            os.fdatasync(self._fd)
