"""Runs on the managed host: which device nodes a container may use, as rules and as a BPF program.

Version 2 of cgroups has no file for this: a program on the cgroup answers each access. It gets
(access << 16 | type, major, minor) and returns 1 to allow. The last rule that matches decides, so the
rules are tried from the last to the first.
"""

from __future__ import annotations

import os
import struct

from . import syscalls
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


class Rule:
    """One rule; `type` empty is both kinds, -1 is any number."""

    def __init__(self, allow: bool, type: str, major: int, minor: int, access: str) -> None:
        self.allow = allow
        self.type = type
        self.major = major
        self.minor = minor
        self.access = access

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))


DENY_ALL = Rule(False, "", -1, -1, "rwm")
DEFAULTS = (
    Rule(True, "c", -1, -1, "m"),  # nodes may be made; using them is another matter
    Rule(True, "b", -1, -1, "m"),
    Rule(True, "c", 1, 3, "rwm"),  # null
    Rule(True, "c", 1, 5, "rwm"),  # zero
    Rule(True, "c", 1, 7, "rwm"),  # full
    Rule(True, "c", 1, 8, "rwm"),  # random
    Rule(True, "c", 1, 9, "rwm"),  # urandom
    Rule(True, "c", 5, 0, "rwm"),  # tty
    Rule(True, "c", 5, 1, "rwm"),  # console
    Rule(True, "c", 5, 2, "rwm"),  # ptmx
    Rule(True, "c", 136, -1, "rwm"),  # pts/*
)


def rules(entries: list[dict[str, Any]] | None) -> list[Rule]:
    """Parse `resources.devices`; the default devices follow the first rule that denies everything."""
    if entries is None:
        return [DENY_ALL, *DEFAULTS]
    found: list[Rule] = []
    for entry in entries:
        kind = entry.get("type") or "a"
        major, minor = entry.get("major"), entry.get("minor")
        rule = Rule(
            bool(entry["allow"]),
            "" if kind == "a" else "c" if kind == "u" else kind,
            -1 if major is None else major,
            -1 if minor is None else minor,
            entry.get("access") or "rwm",
        )
        found.append(rule)
        if rule == DENY_ALL:
            found.extend(DEFAULTS)
    return found


def attach(folder: str, parsed: list[Rule]) -> None:
    """Put the program on the cgroup; it goes with the cgroup."""
    if not any(not rule.allow for rule in parsed):
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.attach_device_program(fd, assemble(parsed))
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


def assemble(parsed: list[Rule]) -> bytes:
    """The program for the rules, eight bytes an instruction.

    Registers: 2 type, 3 access, 4 major, 5 minor. A rule whose access the request exceeds does not
    match an allow; a deny matches if they have any access in common.
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
    for rule in reversed(parsed):
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
