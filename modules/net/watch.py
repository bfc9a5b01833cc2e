"""Runs on the managed host, in the DNS process: brings hostctl's table back when somebody's firewall has flushed it.

`nft flush ruleset`, with which nftables.service loads and ends, removes the tables of all. The kernel tells
who listens (nftables' notices, linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES), so nothing is polled, and no
unit, hook or file of somebody else's has to know of hostctl.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import time

from .dns_forward import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET_SECONDS = 0.2
"""Whoever flushes may well load at once: `systemctl restart` does both, one after the other."""
RETRY_SECONDS = 5.0

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES = 12, 270, 1, 7
_NEW_TABLE, _DELETE_TABLE = 10 << 8 | 0, 10 << 8 | 2
_INET, _NAME = 1, 1  # linux/netfilter.h: NFPROTO_INET; linux/netfilter/nf_tables.h: NFTA_TABLE_NAME
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_READS = 64
"""Datagrams in one turn of the loop: a container's query must not wait for a large ruleset."""


class Watch:
    """What the kernel has said of tables with our name, and the process that loads ours again."""

    def __init__(self, loop: Loop, data_dir: str, run_dir: str) -> None:
        self._loop = loop
        self._folders = (data_dir, run_dir)
        self._gone: set[str] = set()
        self._due = 0.0
        self._child = 0
        self._socket: socket.socket | None = None
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
        except OSError:
            return  # a kernel that tells nobody: the next apply or start loads the table
        loop.watch(self._socket.fileno(), self._read)

    def timeout(self) -> float | None:
        """Seconds until `act` has something to do, None if never."""
        if not self._gone or self._child:
            return None
        return max(0.0, self._due - time.monotonic())

    def act(self) -> None:
        """Start loading what has been gone for a moment."""
        if self.timeout() == 0.0:
            self._start()

    def _read(self, _: int) -> None:
        assert self._socket is not None
        for _turn in range(_READS):
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: more was said than there is room for, and what is not known
                self._lost("?")
                return
            for name, there in tables(data):
                if there:
                    self._gone.discard(name)
                else:
                    self._lost(name)

    def _lost(self, name: str) -> None:
        if not self._gone:
            self._due = time.monotonic() + QUIET_SECONDS
        self._gone.add(name)

    def _start(self) -> None:
        """By exec: what loads a table needs far more memory than what waits for it to go."""
        package = __name__.partition(".")[0]
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = f"import sys; sys.path.insert(0, sys.argv[1]); from {package}.net.watch import mend; mend(*sys.argv[2:])"
        argv = [sys.executable, "-I", "-S", "-c", code, root, *self._folders]
        self._gone.clear()  # what goes from now on is for the next one
        try:
            self._child = os.posix_spawn(argv[0], argv, os.environ)
        except OSError:
            self._again()
            return
        try:
            handle = os.pidfd_open(self._child)
        except OSError:
            self._reap()  # a kernel older than 5.3: queries wait a moment
            return
        self._loop.watch(handle, self._ended)

    def _ended(self, handle: int) -> None:
        if select.select([handle], [], [], 0)[0]:
            self._loop.unwatch(handle)
            os.close(handle)
            self._reap()

    def _reap(self) -> None:
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        if status:
            self._again()
        elif self._gone:
            self._due = time.monotonic() + QUIET_SECONDS

    def _again(self) -> None:
        self._child = 0
        self._gone.add("?")
        self._due = time.monotonic() + RETRY_SECONDS


def tables(data: bytes) -> Iterator[tuple[str, bool]]:
    """Of one datagram of nftables' notices: tables with a name of ours, and whether each is there now."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        body = at + _HEADER.size  # struct nfgenmsg, 4 bytes: family, version, id of the subsystem
        if kind in (_NEW_TABLE, _DELETE_TABLE) and data[body] == _INET:
            name = _name(data[body + 4 : at + size])
            if name == "hostctl" or name.startswith("hostctl_"):
                yield name, kind == _NEW_TABLE
        at += size + -size % 4


def _name(attributes: bytes) -> str:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        size, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if size < _ATTRIBUTE.size:
            break
        if kind & 0x3FFF == _NAME:
            return attributes[at + _ATTRIBUTE.size : at + size].rstrip(b"\0").decode()
        at += size + -size % 4
    return ""


def mend(data_dir: str, run_dir: str) -> None:
    """In a process of its own: load the table that the records ask for, unless it is there.

    Raises:
        HostctlError: nft is missing or refuses.
    """
    signal.alarm(120)
    from ..agent.paths import Paths
    from . import addresses, firewall

    paths = Paths(data_dir, run_dir)
    if addresses.load_all(
        paths
    ):  # else `sync` would make it and remove it, and be noticed doing so
        firewall.sync(paths)
