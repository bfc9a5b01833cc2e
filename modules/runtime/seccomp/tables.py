"""Runs on the managed host: numbers of system calls, by name and architecture.

`syscalls.txt` is written by scripts/make-seccomp-data. Each call of `load` reads it; nothing is kept,
because who compiles a filter ends soon, or is the agent, which keeps the compiled filters instead.
"""

from __future__ import annotations

import os

from ..config import RuntimeFailure

Table = dict[str, int]

X32_BIT = 0x40000000
# linux/audit.h. x32 has no number of its own: its calls are x86-64's with a bit set.
AUDIT = {
    "x86_64": 0xC000003E,
    "x32": 0xC000003E,
    "x86": 0x40000003,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
}
NARROW = frozenset(("x86", "arm", "x32"))
"""Architectures of whose arguments only the low 32 bits count."""
_NATIVE = {"x86_64": "x86_64", "aarch64": "aarch64", "armv7l": "arm", "armv8l": "arm"}
_NATIVE.update(dict.fromkeys(("i386", "i486", "i586", "i686"), "x86"))

# Linux 4.3 gave x86 direct calls beside these two; programs use both (socketcall(2), ipc(2)).
_SOCKET_CALLS = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom"
    " shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
)
MULTIPLEXED = {name: ("socketcall", number) for number, name in enumerate(_SOCKET_CALLS.split(), 1)}
MULTIPLEXED.update(
    {
        name: ("ipc", number)
        for name, number in {
            "semop": 1,
            "semget": 2,
            "semctl": 3,
            "semtimedop": 4,
            "msgsnd": 11,
            "msgrcv": 12,
            "msgget": 13,
            "msgctl": 14,
            "shmat": 21,
            "shmdt": 22,
            "shmget": 23,
            "shmctl": 24,
        }.items()
    }
)


def native(machine: str) -> str:
    """The architecture of a kernel, by `uname -m`. Raises RuntimeFailure where there is no table."""
    if machine not in _NATIVE:
        raise RuntimeFailure(
            f"cannot filter system calls on {machine}: their numbers are not known here",
            hint="set `security_opt: [seccomp=unconfined]`, or use a host of x86-64 or arm64",
            ref="no-seccomp-table",
        )
    return _NATIVE[machine]


def load(architectures: list[str]) -> dict[str, Table]:
    """For each of them, name -> number as the kernel gives it to a filter."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "syscalls.txt")
    with open(path, encoding="ascii") as stream:
        columns = stream.readline().split()
        rows = [line.split() for line in stream]
    tables = {}
    for name in architectures:
        column, bit = columns.index(name), X32_BIT if name == "x32" else 0
        tables[name] = {row[0]: int(row[column]) | bit for row in rows if row[column] != "-"}
    return tables
