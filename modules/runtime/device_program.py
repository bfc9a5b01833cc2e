"""Runs on the managed host: device rules as a BPF program, for version 2 of cgroups.

The program on the cgroup answers each access. It gets (access << 16 | type, major, minor) and returns 1
to allow. The last rule that matches decides, so the rules are tried from the last to the first.
Source: the kernel's include/uapi/linux/bpf.h (bpf_cgroup_dev_ctx), instruction-set.rst.
"""

from __future__ import annotations

import os
import struct

from . import syscalls
from .config import RuntimeFailure
from .device_filter import Rule

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


def attach(folder: str, parsed: list[Rule], *, replace: bool = False) -> None:
    """Put the program on the cgroup; it goes with the cgroup.

    Args:
        replace: take the place of the program that is there, without a moment between.
    """
    restricted = any(not rule.allow for rule in parsed)
    if not restricted and not replace:
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # No rule denies: a program that allows all takes the old one's place.
        syscalls.attach_device_program(fd, assemble(parsed), replace=replace)
    except OSError as error:
        raise RuntimeFailure(
            f"cannot restrict the container's devices: {error.strerror}",
            hint="the kernel needs CONFIG_CGROUP_BPF; `privileged: true` does without",
            ref="no-device-filter",
        ) from error
    finally:
        os.close(fd)


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, dst | src << 4, offset, value)


def merged(parsed: list[Rule]) -> list[Rule]:
    """Rules beside each other that differ in the access alone, as one: `r` and `w` is also `rw`."""
    found: list[Rule] = []
    for rule in parsed:
        last = found[-1] if found else None
        if last and (last.allow, last.type, last.major, last.minor) == (
            rule.allow,
            rule.type,
            rule.major,
            rule.minor,
        ):
            both = "".join(letter for letter in "rwm" if letter in last.access + rule.access)
            found[-1] = Rule(rule.allow, rule.type, rule.major, rule.minor, both)
        else:
            found.append(rule)
    return found


def assemble(parsed: list[Rule]) -> bytes:
    """The program for the rules, eight bytes an instruction.

    Registers: 2 type, 3 access, 4 major, 5 minor. A rule whose access the request exceeds does not
    match an allow; a deny matches if they have any access in common. What no rule matches is denied.
    """
    load, move, jump_ne, jump_eq, leave = 0x61, 0xB7, 0x55, 0x15, 0x95
    code = [
        _instruction(load, 2, 1, 0),
        _instruction(0x54, 2, value=0xFFFF),  # w2 &= 0xffff
        _instruction(load, 3, 1, 0),
        _instruction(0x74, 3, value=16),  # w3 >>= 16
        _instruction(load, 4, 1, 4),
        _instruction(load, 5, 1, 8),
    ]
    for rule in reversed(merged(parsed)):
        tests: list[tuple[int, int, int]] = []  # (opcode that skips the rule, register, value)
        if rule.type:
            tests.append((jump_ne, 2, _TYPES[rule.type]))
        bits = sum(_ACCESS[letter] for letter in set(rule.access))
        body: list[bytes] = []
        if bits != 7:
            asked = ~bits & 7 if rule.allow else bits
            body.append(_instruction(0xBC, 1, 3))  # w1 = w3
            body.append(_instruction(0x54, 1, value=asked))  # w1 &= asked
            tests.append((jump_ne if rule.allow else jump_eq, 1, 0))
        if rule.major >= 0:
            tests.append((jump_ne, 4, rule.major))
        if rule.minor >= 0:
            tests.append((jump_ne, 5, rule.minor))
        # Layout: the access bits are computed first, then the tests, then "return allow".
        for index, (opcode, register, value) in enumerate(tests):
            to_end = len(tests) - index - 1 + 2
            body.append(_instruction(opcode, register, offset=to_end, value=value))
        body.append(_instruction(move, 0, value=int(rule.allow)))
        body.append(_instruction(leave))
        code.extend(body)
        if not tests:
            # It decides about everything; the kernel refuses a program with code that is never reached.
            return b"".join(code)
    code += [_instruction(move, 0, value=0), _instruction(leave)]
    return b"".join(code)
