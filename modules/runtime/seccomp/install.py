"""Runs on the managed host, in a container's first process: installs its filter of system calls.

The agent compiles the filter and lays it beside config.json as `seccomp.bpf`, so that a start only reads
it. A bundle of somebody else's has none; then `prepare` compiles, in the process that creates the
container and soon ends. This file is all of the package that monitors share: it imports nothing else.
"""

from __future__ import annotations

import errno
import os

from ...contract import plainjson
from .. import syscalls as sys
from ..config import Config, RuntimeFailure, section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .listener import Listener

FILE = "seccomp.bpf"
"""Beside config.json: a line `hostctl-seccomp REVISION MACHINE FLAGS`, the profile's JSON, the program."""
REVISION = 1
"""Of the compiler: a file that an older hostctl wrote counts as long as this stays."""
_SPEC_ALLOW, _NEW_LISTENER = 4, 8


class Filter:
    """A program for seccomp(2), its flags, and who is told of it where it notifies."""

    def __init__(self, flags: int, program: bytes) -> None:
        self.flags = flags
        self.program = program
        self.listener: Listener | None = None


def prepare(config: Config, bundle: str) -> Filter | None:
    """Find or compile the filter; None where the configuration has none.

    Args:
        bundle: the folder of config.json.
    Raises:
        RuntimeFailure: a value of `linux.seccomp` cannot be used, or nobody listens at `listenerPath`.
    """
    wanted = section(config, "linux", "seccomp")
    if wanted is None:
        return None
    text = canonical(wanted)
    stored = _stored(bundle, text)
    if stored is None:
        from .build import build

        stored = build(text, os.uname().machine)
    head, _, program = stored.split(b"\n", 2)
    found = Filter(int(head.split()[3]), program)
    if found.flags & _NEW_LISTENER:
        from .listener import Listener

        found.listener = Listener(config, bundle)
    return found


def canonical(wanted: Any, *, arrange: bool = False) -> bytes:
    """The profile as one line: what tells whether a stored filter is this one's.

    Keys stay in the order of config.json: who writes both files has them arranged.
    """
    return plainjson.dumps(wanted, sort_keys=arrange).encode()


def head(machine: str, flags: int) -> bytes:
    """The first line of the file, without flags all but its end."""
    start = f"hostctl-seccomp {REVISION} {machine} "
    return start.encode() if flags < 0 else f"{start}{flags}".encode()


def _stored(bundle: str, text: bytes) -> bytes | None:
    try:
        fd = os.open(os.path.join(bundle, FILE), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
    parts = found.split(b"\n", 2)
    if len(parts) < 3 or parts[1] != text or not parts[2] or len(parts[2]) % 8:
        return None
    return found if parts[0].startswith(head(os.uname().machine, -1)) else None


def enter(found: Filter) -> None:
    """Child: from now on the calls that the profile forbids are forbidden to this process and its own.

    Needs no_new_privs or CAP_SYS_ADMIN: so it comes before capabilities go, unless no_new_privs is set.
    """
    if found.listener is not None:
        found.listener.enter(found)
        return
    try:
        sys.seccomp(found.flags, found.program)
    except OSError as error:
        # Linux before 4.17 does not know the flag that everybody gets.
        if error.errno != errno.EINVAL or found.flags != _SPEC_ALLOW:
            raise refused(error) from error
        try:
            sys.seccomp(0, found.program)
        except OSError as again:
            raise refused(again) from again


def filenos(found: Filter | None) -> tuple[int, ...]:
    """Descriptors that are to stay open until `enter`."""
    return () if found is None or found.listener is None else found.listener.filenos()


def refused(error: OSError) -> RuntimeFailure:
    """What the kernel said of the filter, and what helps."""
    hints = {
        errno.EINVAL: "the kernel lacks seccomp filters or one of linux.seccomp.flags; leave `flags` out",
        errno.ENOSYS: "the kernel needs CONFIG_SECCOMP_FILTER; `seccomp=unconfined` does without",
        errno.EACCES: "set process.noNewPrivileges, or run hostctl with CAP_SYS_ADMIN",
        errno.EBUSY: "another filter of this container has a listener already",
    }
    return RuntimeFailure(
        f"cannot filter the container's system calls: {error.strerror}",
        hint=hints.get(error.errno or 0, ""),
        ref="no-seccomp",
    )
