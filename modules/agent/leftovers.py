"""Runs on the managed host, at the end of a run that writes: what nobody's end has taken away.

A kill, or somebody's hand in hostctl's folders, may leave names in the run folder behind whom nobody listens, and
bridges of networks that have no record. Only what is surely of this data and run folder is touched.
"""

from __future__ import annotations

import fcntl
import os
import socket

from .paths import Paths

_ZYGOTE, _DNS = "zygote-", "dns.sock"
_ALIAS = "hostctl network "
_BRIDGE = "hc-"


def collect(paths: Paths) -> None:
    """Remove it; the caller holds the host's lock. Never raises: the next run tries again."""
    try:
        _sockets(paths)
        _bridges(paths)
    except OSError:
        return


def _sockets(paths: Paths) -> None:
    """Those that nobody listens at. While there are containers, their monitors see to it."""
    if _entries(os.path.join(paths.data, "containers")):
        return
    found = _entries(paths.run)
    for name in found:
        path = os.path.join(paths.run, name)
        if name.startswith(_ZYGOTE) and name.endswith(".sock"):
            _unlink_dead(path, "zygote.lock", socket.SOCK_STREAM)
        elif name == _DNS:
            _unlink_dead(path, "dns.lock", socket.SOCK_SEQPACKET)
    if "dns.log" in found and not os.path.lexists(os.path.join(paths.run, _DNS)):
        _unlink(os.path.join(paths.run, "dns.log"))


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _unlink_dead(path: str, lock: str, kind: int) -> None:
    """Under the lock of whoever would make it anew; where that is held, somebody is about to."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(os.path.dirname(path), lock), flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _listens(path, kind):
            _unlink(path)
    except BlockingIOError:
        return
    finally:
        os.close(fd)


def _listens(path: str, kind: int) -> bool:
    where = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, kind) as peer:
            peer.setblocking(False)
            # A socket's path may be at most 107 bytes long.
            peer.connect(f"/proc/self/fd/{where}/{os.path.basename(path)}")
    except BlockingIOError:
        return True
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    finally:
        os.close(where)
    return True


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _bridges(paths: Paths) -> None:
    """Those whose alias names a network of this data folder (their name is made of both) that has no record."""
    if not any(name.startswith(_BRIDGE) for _, name in socket.if_nameindex()):
        return
    from ..net import addresses, links, netlink

    with netlink.Netlink() as kernel:
        for link in kernel.links("bridge"):
            network = link.alias[len(_ALIAS) :] if link.alias.startswith(_ALIAS) else ""
            ours = network and addresses.bridge_name(paths, network) == link.name
            if ours and not os.path.lexists(os.path.join(paths.data, "networks", network)):
                links.remove(kernel, link.name)
