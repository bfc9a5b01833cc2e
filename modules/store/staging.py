"""Runs on the managed host: how content gets into the store: a temporary name, syncfs, rename.

What is on its way in lies in a folder below `tmp/` that is locked with flock while its process lives, and
so is the list of what it needs of the store (`pinned`). What nobody holds was left by a crash and is removed
by the next one who brings something in.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..agent.files import write_atomic, write_json
from ..contract.errors import HostctlError
from .store import EMPTY_LAYER, Store

_SHORT = 16
_PINS = ".pins"
_FEW, _FLAT = 300, 8
"""Entries and depth of a folder that is not worth a start of `rm`."""


class _Shared:
    """What the threads of this process share about one store."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = 0
        self.fd = -1
        self.locks: dict[str, threading.Lock] = {}
        self.pid = 0
        self.syncs = 0
        self.sync_lock = threading.Lock()


_shared: dict[str, _Shared] = {}


def shared(store: Store) -> _Shared:
    """The state for this store's folder; a forked child starts anew."""
    state = _shared.setdefault(store.root, _Shared())
    if state.pid != os.getpid():
        state = _Shared()
        state.pid = os.getpid()
        _shared[store.root] = state
    return state


@contextmanager
def prepared(store: Store) -> Iterator[None]:
    """The store's folders exist, and this thread alone of all processes changes its index."""
    state = shared(store)
    with state.lock:
        if state.depth == 0:
            _make_layout(store)
            state.fd = os.open(
                os.path.join(store.root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(state.fd, fcntl.LOCK_EX)
        state.depth += 1
        try:
            yield
        finally:
            state.depth -= 1
            if state.depth == 0:
                os.close(state.fd)


def _make_layout(store: Store) -> None:
    if os.path.exists(os.path.join(store.root, "oci-layout")):
        return
    for folder in ("blobs/sha256", f"layers/{EMPTY_LAYER}", "l", "tmp"):
        os.makedirs(os.path.join(store.root, folder), mode=0o700, exist_ok=True)
    os.chmod(os.path.join(store.root, "layers", EMPTY_LAYER), 0o755)
    link = os.path.join(store.links_dir, EMPTY_LAYER)
    if not os.path.lexists(link):
        os.symlink(f"../layers/{EMPTY_LAYER}", link)
    # Last, because it says that all of the above is there.
    write_atomic(os.path.join(store.root, "oci-layout"), b'{"imageLayoutVersion": "1.0.0"}')


def sweep(store: Store) -> None:
    """Remove what processes that died have left: folders below `tmp/`, files that were being written.

    Such files are written under the lock only, so whoever holds it sees those of the dead.
    """
    with prepared(store):
        for folder in ("", "blobs/sha256", "layers"):
            for name in os.listdir(os.path.join(store.root, folder)):
                if name.startswith(".") and ".hostctl-" in name:
                    os.unlink(os.path.join(store.root, folder, name))
        parent = os.path.join(store.root, "tmp")
        for name in os.listdir(parent):
            _remove_if_dead(os.path.join(parent, name))


def _remove_if_dead(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(fd)
    if path.endswith(_PINS):
        os.unlink(path)
    else:
        remove_tree(path)


def remove_tree(path: str) -> None:
    """Remove a folder whatever lies in it. GNU rm copes with any depth, Python's recursion does not."""
    try:
        left = _remove_some(path, _FEW, _FLAT)
    except FileNotFoundError:
        return
    except OSError:
        left = 0
    if left <= 0:
        from ..agent.run import run

        run(["rm", "-rf", "--", path], timeout=600, check=True)


def _remove_some(folder: str, left: int, depth: int) -> int:
    """Remove a small folder without another program; how many more entries there might be, 0 if it was too large."""
    with os.scandir(folder) as entries:
        for entry in entries:
            left -= 1
            if entry.is_dir(follow_symlinks=False):
                left = _remove_some(entry.path, left, depth - 1) if depth else 0
            elif left > 0:
                os.unlink(entry.path)
            if left <= 0:
                return 0
    os.rmdir(folder)
    return left


@contextmanager
def scratch(store: Store) -> Iterator[str]:
    """A new empty folder below `tmp/`, gone at the end whatever happens."""
    parent = os.path.join(store.root, "tmp")
    path = os.path.join(parent, secrets.token_hex(6))
    with prepared(store):
        os.mkdir(path, 0o700)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
    try:
        yield path
    finally:
        os.close(fd)
        remove_tree(path)


@contextmanager
def pinned(store: Store, digests: list[str]) -> Iterator[None]:
    """While this lasts, `collect` leaves these blobs and layers alone, in whatever process it runs."""
    path = os.path.join(store.root, "tmp", secrets.token_hex(6) + _PINS)
    with prepared(store):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_SH)
        with open(fd, "w", encoding="ascii", closefd=False) as stream:
            stream.write("\n".join(digests))
    try:
        yield
    finally:
        os.unlink(path)
        os.close(fd)


def pins(store: Store) -> set[str]:
    """Hex digests that what is under way needs. Call it under `prepared`, after `sweep`."""
    found: set[str] = set()
    folder = os.path.join(store.root, "tmp")
    for name in os.listdir(folder):
        if name.endswith(_PINS):
            try:
                with open(os.path.join(folder, name), encoding="ascii") as stream:
                    found.update(line.rpartition(":")[2] for line in stream.read().split())
            except FileNotFoundError:
                pass  # its owner has just come to its end, and everything has its name
    return found


@contextmanager
def exclusive(store: Store, digest: str) -> Iterator[None]:
    """One thread at a time brings in this digest; those that waited find it there."""
    state = shared(store)
    with state.lock:
        lock = state.locks.setdefault(digest, threading.Lock())
    with lock:
        yield


def put_blob(store: Store, digest: str, data: bytes) -> None:
    """A small blob (manifest, config) whose digest the caller has verified."""
    with prepared(store):
        if not store.has_blob(digest):
            write_atomic(store.blob_path(digest), data)


def commit_blob(store: Store, digest: str, path: str) -> None:
    """Give a verified, synced file of the workspace its name in the store."""
    with prepared(store):
        os.rename(path, store.blob_path(digest))
        _sync_folder(os.path.dirname(store.blob_path(digest)))


def commit_layer(store: Store, diff_id: str, path: str, opaque: bool, size: int) -> None:
    """Give a verified, synced tree its name. The record comes last: it says that the layer is whole."""
    final = store.layer_path(diff_id)
    with prepared(store):
        if store.has_layer(diff_id):
            return
        if os.path.lexists(final):
            # Renamed by a process that died before it wrote the record: as good as this one.
            remove_tree(path)
        else:
            os.rename(path, final)
        short = _link(store, os.path.basename(final))
        _sync_folder(os.path.dirname(final))
        _sync_folder(store.links_dir)
        record = {"short": short, "size": size, **({"opaque": True} if opaque else {})}
        write_json(final + ".json", record)


def _link(store: Store, hex_digest: str) -> str:
    """The layer's short name: the start of its diff id; longer where another layer begins the same."""
    target = f"../layers/{hex_digest}"
    text = base64.b32encode(bytes.fromhex(hex_digest)).decode().rstrip("=")
    for length in range(_SHORT, len(text) + 1):
        path = os.path.join(store.links_dir, text[:length])
        if not os.path.lexists(path):
            os.symlink(target, path)
        if os.readlink(path) == target:
            return text[:length]
    raise HostctlError(
        f"cannot name layer {hex_digest}: its short names are taken", ref="layer-name"
    )


def sync(store: Store) -> None:
    """All that was written into the store's file system is on the disk.

    Threads that ask while another one syncs share the next sync.
    """
    from ..runtime.syscalls import syncfs

    state = shared(store)
    asked = state.syncs
    with state.sync_lock:
        if state.syncs > asked:
            # It began after this thread had asked, and has ended.
            return
        state.syncs += 1
        fd = os.open(store.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
