"""Runs on the managed host: comparisons of arguments as nodes of a BPF program.

The program's words have 32 bits, a system call's arguments 64: the high half decides first. On an
architecture of 32 bits there is no high half, and that of a profile's value is not looked at, as in
libseccomp.
"""

from __future__ import annotations

from .graph import EQUAL, GREATER, GREATER_EQUAL, Graph, argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .spec import Condition

_HALF = 0xFFFFFFFF


def always(condition: Condition, narrow: bool) -> bool:
    """Nothing is compared."""
    mask = condition.value & _HALF if narrow else condition.value
    return condition.operator == "MASKED_EQ" and mask == 0


def compare(graph: Graph, condition: Condition, narrow: bool, then: int, other: int) -> int:
    """The node that leads to `then` where the condition holds, else to `other`."""
    operator, value = condition.operator, condition.value
    if operator == "MASKED_EQ":
        return _masked(graph, condition, narrow, then, other)
    if operator in ("NE", "LT", "LE"):
        operator = {"NE": "EQ", "LT": "GE", "LE": "GT"}[operator]
        then, other = other, then
    code = {"EQ": EQUAL, "GE": GREATER_EQUAL, "GT": GREATER}[operator]
    low = graph.load(
        argument(condition.index, high=False), graph.test(code, value & _HALF, then, other)
    )
    if narrow:
        return low
    high = graph.test(EQUAL, value >> 32, low, other)
    if operator != "EQ":
        high = graph.test(GREATER, value >> 32, then, high)
    return graph.load(argument(condition.index, high=True), high)


def _masked(graph: Graph, condition: Condition, narrow: bool, then: int, other: int) -> int:
    mask, value = condition.value, condition.value & condition.other
    node = then
    for high in (False, True):
        bits = mask >> 32 if high else mask & _HALF
        if not bits or (high and narrow):
            continue
        node = graph.test(EQUAL, value >> 32 if high else value & _HALF, node, other)
        if bits != _HALF:
            node = graph.mask(bits, node)
        node = graph.load(argument(condition.index, high=high), node)
    return node
