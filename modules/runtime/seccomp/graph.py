"""Runs on the managed host: a program of classic BPF as a graph, and its layout in memory.

Nodes are made from the ends to the beginning; equal ones are one. Jumps of classic BPF go forward
only and at most 255 instructions far, so the layout is written from its end too, and puts a way
station or a second copy of a return where a jump would be too long. Source: linux/bpf_common.h,
Documentation/networking/filter.rst.
"""

from __future__ import annotations

import struct

from ..config import RuntimeFailure

NUMBER, ARCHITECTURE = 0, 4
"""Offsets in struct seccomp_data, linux/seccomp.h."""
_ARGUMENTS = 16
_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
EQUAL, GREATER, GREATER_EQUAL = 0x15, 0x25, 0x35
_REACH = 255
MOST = 4096
"""BPF_MAXINSNS."""


class Graph:
    """A node is a number; whatever it leads to has a smaller one."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, int, int, int]] = []
        self._known: dict[tuple[int, int, int, int], int] = {}

    def _node(self, code: int, value: int, then: int = -1, other: int = -1) -> int:
        key = (code, value, then, other)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self._nodes)
            self._nodes.append(key)
        return found

    def leave(self, value: int) -> int:
        """Return the value."""
        return self._node(_RETURN, value)

    def load(self, offset: int, then: int) -> int:
        """Take a word of struct seccomp_data."""
        return self._node(_LOAD, offset, then)

    def test(self, code: int, value: int, then: int, other: int) -> int:
        """Compare the word that was taken."""
        return then if then == other else self._node(code, value, then, other)

    def mask(self, bits: int, then: int) -> int:
        """Keep these bits of the word."""
        return self._node(_AND, bits, then)

    def assemble(self, root: int) -> bytes:
        """The program that begins at the node: 8 bytes an instruction, in this machine's byte order.

        Raises:
            RuntimeFailure: the kernel would not take so many instructions.
        """
        code: list[tuple[int, int, int, int]] = []  # (operation, jump if true, if false, value)
        place: dict[int, int] = {}  # node -> its nearest instruction, counted from the end
        for node in self._reached(root):
            operation, value, then, other = self._nodes[node]
            if operation in (_LOAD, _AND):
                if place[then] != len(code) - 1:
                    code.append((_JUMP, 0, 0, len(code) - place[then] - 1))
                code.append((operation, 0, 0, value))
            elif operation == _RETURN:
                code.append((operation, 0, 0, value))
            else:
                self._bring_near((then, other), code, place)
                code.append(
                    (operation, len(code) - place[then] - 1, len(code) - place[other] - 1, value)
                )
            place[node] = len(code) - 1
        if len(code) > MOST:
            raise RuntimeFailure(
                f"cannot use linux.seccomp: its filter has {len(code)} instructions, and the kernel"
                f" takes at most {MOST}",
                where="config.json",
                hint="use fewer rules with `args`, or fewer `architectures`",
                ref="seccomp-too-long",
            )
        return b"".join(
            struct.pack("=HBBI", operation, then, other, value)
            for operation, then, other, value in reversed(code)
        )

    def _reached(self, root: int) -> list[int]:
        seen, waiting = {root}, [root]
        while waiting:
            for node in self._nodes[waiting.pop()][2:]:
                if node >= 0 and node not in seen:
                    seen.add(node)
                    waiting.append(node)
        return sorted(seen)

    def _bring_near(
        self,
        targets: tuple[int, int],
        code: list[tuple[int, int, int, int]],
        place: dict[int, int],
    ) -> None:
        """Both within reach of the next instruction. Each addition moves that one a step away."""
        while True:
            far = [node for node in targets if len(code) - place[node] - 1 > _REACH]
            if not far:
                return
            operation, value, _, _ = self._nodes[far[0]]
            if operation == _RETURN:
                code.append((operation, 0, 0, value))
            else:
                code.append((_JUMP, 0, 0, len(code) - place[far[0]] - 1))
            place[far[0]] = len(code) - 1


def argument(index: int, *, high: bool) -> int:
    """Offset of half an argument of 64 bits; little-endian machines only."""
    return _ARGUMENTS + 8 * index + (4 if high else 0)
