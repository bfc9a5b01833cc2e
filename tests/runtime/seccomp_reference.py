"""Runs on the test machine: libseccomp's filter for a profile, and an interpreter for both filters."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import tempfile
from typing import Any

from hostctl_host.runtime.seccomp import spec
from hostctl_host.runtime.seccomp.compiler import compile_profile

AUDIT = {
    "x86_64": 0xC000003E,
    "x86": 0x40000003,
    "x32": 0xC000003E,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
}
TOKENS = {**AUDIT, "x32": 0x4000003E}
ACTIONS = {
    "KILL": 0,
    "KILL_THREAD": 0,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x30000,
    "ERRNO": 0x50000,
    "TRACE": 0x7FF00000,
    "ALLOW": 0x7FFF0000,
    "LOG": 0x7FFC0000,
    "NOTIFY": 0x7FC00000,
}
OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
NO_SUCH_CALL = -1
EXISTS = -17

library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
library.seccomp_init.argtypes = (ctypes.c_uint32,)
library.seccomp_release.argtypes = (ctypes.c_void_p,)
library.seccomp_release.restype = None
library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
library.seccomp_arch_remove.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
library.seccomp_syscall_resolve_num_arch.argtypes = (ctypes.c_uint32, ctypes.c_int)
library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p


class Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


library.seccomp_rule_add_array.argtypes = (
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.POINTER(Comparison),
)


def name_of(architecture: str, number: int) -> str | None:
    """A call's name, by the number that the kernel gives to filters."""
    found = library.seccomp_syscall_resolve_num_arch(TOKENS[architecture], number)
    return (ctypes.string_at(found) or b"").decode() if found else None


def number_of(architecture: str, name: str) -> int:
    """A call's number; negative where the architecture has none of its own."""
    return int(library.seccomp_syscall_resolve_name_arch(TOKENS[architecture], name.encode()))


def reference(profile: dict[str, Any], native: str = "x86_64") -> bytes:
    """What a runtime that uses libseccomp installs (crun's and runc's steps, without runc's stub)."""
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    assert context
    try:
        wanted = [native, *(spec.ARCHITECTURES[a] for a in profile.get("architectures") or ())]
        for architecture in wanted:
            assert library.seccomp_arch_add(context, TOKENS[architecture]) in (0, EXISTS)
        if "x86_64" not in wanted:
            assert library.seccomp_arch_remove(context, TOKENS["x86_64"]) == 0
        for rule in profile.get("syscalls") or ():
            _add(context, rule, default)
        with tempfile.TemporaryFile() as stream:
            assert library.seccomp_export_bpf(context, stream.fileno()) == 0
            return os.pread(stream.fileno(), 1 << 20, 0)
    finally:
        library.seccomp_release(context)


def _action(name: str, errno: int | None) -> int:
    value = ACTIONS[name.removeprefix("SCMP_ACT_")]
    return value | (1 if errno is None else errno) if name.endswith(("ERRNO", "TRACE")) else value


def _add(context: int, rule: dict[str, Any], default: int) -> None:
    action = _action(rule["action"], rule.get("errnoRet"))
    if action == default:
        return
    conditions = [
        Comparison(
            arg["index"],
            OPERATORS[arg["op"].removeprefix("SCMP_CMP_")],
            arg["value"],
            arg.get("valueTwo", 0),
        )
        for arg in rule.get("args") or ()
    ]
    parts = [conditions]
    if len({c.arg for c in conditions}) < len(conditions):
        parts = [[condition] for condition in conditions]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == NO_SUCH_CALL:
            continue
        for part in parts:
            array = (Comparison * len(part))(*part)
            done = library.seccomp_rule_add_array(context, action, number, len(part), array)
            assert done == 0, (name, done)


def ours(profile: dict[str, Any], machine: str = "x86_64", *, unknown_calls: bool = False) -> bytes:
    parsed = spec.parse(json.loads(json.dumps(profile)))
    return compile_profile(parsed, machine, unknown_calls=unknown_calls)


Code = list[tuple[int, int, int, int]]


def decode(program: bytes) -> Code:
    return [*struct.iter_unpack("=HBBI", program)]


def run(code: Code, architecture: str, number: int, arguments: tuple[int, ...]) -> int:
    """The filter's verdict. Jumps outside the program and unknown instructions are failures."""
    data = struct.pack("=IIQ6Q", number, AUDIT[architecture], 0, *arguments)
    at = accumulator = 0
    while True:
        operation, then, other, value = code[at]
        at += 1
        if operation == 0x20:
            accumulator = int.from_bytes(data[value : value + 4], "little")
        elif operation == 0x06:
            return value
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            at += value
        else:
            hit = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            at += then if hit else other
