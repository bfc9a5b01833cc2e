"""Runs on the managed host: what the steps of one build share: store, worker, layers that are not in the store yet.

A layer first lies in the build's scratch folder, where the next step finds it by a short link. It goes into the
store at the end, or earlier after a long step, with one sync for all: a sync for each would cost more than most
steps. Records of the cache are written with them, so a killed build loses at most what was not synced.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable

from ..agent.host import Host
from ..contract.build import Build
from ..contract.errors import HostctlError
from ..store.staging import commit_blob, commit_layer, sync
from ..store.store import EMPTY_LAYER, Store
from . import cache, keeping
from .lent import Lender
from .workshop import Workshop

LONG_SECONDS = 5.0
Report = Callable[..., None]


class NotBuilt(Exception):
    """A plan has come to the first step that is not in the cache."""


@dataclass
class Files:
    """Where a build's content comes from.

    Attributes:
        read: digest -> bytes, of listings.
        fetch: has these digests here.
        ask: lets them come, and waits for none.
        logins: has the host know logins and settings of registries; called before something is pulled.
        path: digest -> file of this host, once it was fetched.
        lent: what the controller lends to steps.
    """

    read: Callable[[str], bytes]
    fetch: Callable[[set[str]], None]
    path: Callable[[str], str]
    lent: Lender = field(default_factory=Lender)
    ask: Callable[[set[str]], None] = lambda _: None
    logins: Callable[[], None] = lambda: None


@dataclass
class _Pending:
    folder: str
    blob: str
    key: str
    record: dict[str, Any]


@dataclass
class Site:
    """One build, or a look at what it would do (`folder` is empty then).

    Attributes:
        bases: reference -> image id (hex) of what stages begin with, or take from.
        steps: key -> diff id of the steps gone through.
        events: how people were told of them.
        asked_others: a server was asked what it has; the request alone does not say what comes of it.
    """

    build: Build
    host: Host
    store: Store
    files: Files
    folder: str
    report: Report
    name: str = ""
    workshop: Workshop = field(default_factory=Workshop)
    pulled: set[str] = field(default_factory=set)
    bases: dict[str, str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    asked_others: bool = False

    def __post_init__(self) -> None:
        self.data = self.host.paths.data
        self.latest = self.build.epoch if self.build.epoch >= 0 else None
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}
        self._active = 0
        self._count = 0
        self._used: list[str] = []
        if self.folder:
            self.links = os.path.join(self.folder, "l")
            os.mkdir(self.links)

    # Cache.

    def find(self, key: str) -> dict[str, Any] | None:
        """What the step with this key gave, if its layer is still there.

        Raises:
            NotBuilt: nothing, and this is only a look.
        """
        if not self.build.no_cache:
            record = cache.read(self.data, key)
            if record is not None and self.has(record["diff_id"]):
                self._used.append(key)
                self.steps[key] = record["diff_id"]
                return record
        if not self.folder:
            raise NotBuilt
        return None

    def has(self, diff_id: str) -> bool:
        return diff_id in self._pending or self.store.has_layer(diff_id)

    # Work.

    def fetch(self, digests: set[str]) -> None:
        """Have files of the context here."""
        self.files.fetch(digests)
        keeping.mark(self.data, digests)

    def task(self, task: str, output: Callable[[bytes], None], **arguments: Any) -> dict[str, Any]:
        """Do a task in the worker; nothing is committed meanwhile."""
        with self._lock:
            self._active += 1
        try:
            return self.workshop.do(task, output, **arguments)
        finally:
            with self._lock:
                self._active -= 1

    def room(self) -> str:
        """A new folder for one step, with `upper`, `work` and `bundle/rootfs`."""
        with self._lock:
            self._count += 1
            path = os.path.join(self.folder, f"step{self._count}")
        os.makedirs(os.path.join(path, "bundle", "rootfs"))
        os.mkdir(os.path.join(path, "work"))
        os.mkdir(os.path.join(path, "upper"), 0o755)
        os.chmod(os.path.join(path, "upper"), 0o755)
        return path

    def lower(self, layers: list[str]) -> list[str]:
        """Names in `links` of these layers (hex diff ids, the lowest first), top first, for an overlay."""
        found = []
        for diff_id in reversed(layers):
            short = diff_id[:20]
            link = os.path.join(self.links, short)
            if not os.path.lexists(link):
                target = self.store.layer_path(diff_id)
                try:
                    os.symlink(target, link)
                except FileExistsError:
                    pass
            if short not in found:
                found.append(short)
        if not found:
            link = os.path.join(self.links, EMPTY_LAYER)
            if not os.path.lexists(link):
                os.symlink(os.path.join(self.store.root, "layers", EMPTY_LAYER), link)
            found.append(EMPTY_LAYER)
        return found

    def directories(self, layers: list[str]) -> list[str]:
        """The layers' folders, top first, to look for a file of the image."""
        return [os.path.join(self.links, name) for name in self.lower(layers)]

    def keep(self, key: str, room: str, done: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Take over what a step made; its record."""
        record = {"diff_id": done["diff_id"], "size": done["size"], "length": done["length"]}
        record["created"] = stamp(self.latest)
        self.steps[key] = record["diff_id"]
        with self._lock:
            upper = os.path.join(room, "upper")
            diff_id = record["diff_id"]
            if not self.has(diff_id):
                blob = os.path.join(room, "blob")
                self._pending[diff_id] = _Pending(upper, blob, key, record)
                os.symlink(upper, os.path.join(self.links, diff_id[:20]))
            else:
                cache.write(self.data, key, record)
            if seconds > LONG_SECONDS and not self._active:
                self._commit()
        return record

    def commit(self) -> None:
        """Bring all that was made into the store."""
        with self._lock:
            self._commit()

    def _commit(self) -> None:
        if self._pending:
            sync(self.store)
        for diff_id, item in list(self._pending.items()):
            # Before the layer: from now on the store keeps it.
            cache.write(self.data, item.key, item.record)
            if os.path.exists(item.blob) and not self.store.has_blob(diff_id):
                commit_blob(self.store, f"sha256:{diff_id}", item.blob)
            commit_layer(self.store, diff_id, item.folder, False, item.record["size"])
            link = os.path.join(self.links, diff_id[:20])
            os.symlink(self.store.layer_path(diff_id), link + ".new")
            os.rename(link + ".new", link)
            del self._pending[diff_id]
        cache.used(self.data, self._used)
        self._used = []


def stamp(latest: int | None) -> str:
    """Now, or the build's own time, as images write it (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(latest))


def failed(message: str, where: str, hint: str = "", ref: str = "build-failed") -> HostctlError:
    """The error of a step."""
    return HostctlError(message, where=where, hint=hint, ref=ref)
