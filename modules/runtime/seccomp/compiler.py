"""Runs on the managed host: makes the BPF program of a profile, with the verdicts of libseccomp's.

Every system call of a container passes the program, so calls are found by a binary search over ranges
of numbers with one verdict. The rules, which a runtime that uses libseccomp gets from it:

* A name that an architecture does not have is passed over there; one that no table has, everywhere
  (crun warns and goes on, runc goes on): a profile may be newer than the host.
* A rule with the default's action says nothing.
* A rule without conditions beats those with conditions, and the first of its kind the later ones.
* The machine's own architecture is always among the architectures; any other one kills the thread.
* x32 calls are x86-64's with bit 30 set; they are an architecture of their own, killed unless named.
* Of calls newer than all that the profile names, which nobody can have decided about, the program says
  ENOSYS, as runc's does: a C library then uses the older call; at EPERM it would give up.
"""

from __future__ import annotations

from . import tables
from .conditions import always, compare
from .graph import ARCHITECTURE, EQUAL, GREATER_EQUAL, NUMBER, Graph
from .spec import ENOSYS, KILL_THREAD, Condition, Profile, Rule
from .tables import AUDIT, MULTIPLEXED, NARROW, X32_BIT, Table

_NOT_THERE = 0x00050000 | ENOSYS
_CANCELLED = 0xFFFFFFFF
"""A tracer's mark for a call that is not to be made: seccomp(2)."""


class Call:
    """What the rules say about one number: conditional verdicts, then one for what is left."""

    def __init__(self) -> None:
        self.cases: list[tuple[list[Condition], int]] = []
        self.action: int | None = None

    def add(self, conditions: list[Condition], action: int) -> None:
        if self.action is None and conditions:
            self.cases.append((conditions, action))
        elif self.action is None:
            self.action = action
            self.cases = []


def compile_profile(profile: Profile, machine: str, *, unknown_calls: bool = True) -> bytes:
    """The program for seccomp(2), 8 bytes an instruction.

    Args:
        machine: as `uname -m` says.
        unknown_calls: answer ENOSYS to calls newer than the profile.
    Raises:
        RuntimeFailure: there is no table for the machine, or the program would be too long.
    """
    own = tables.native(machine)
    architectures = list(dict.fromkeys([own, *profile.architectures]))
    numbers = tables.load(architectures)
    graph = Graph()
    by_audit: dict[int, list[tuple[int, int]]] = {}
    for architecture in architectures:
        ranges = _ranges(
            graph, profile, architecture, numbers[architecture], unknown_calls=unknown_calls
        )
        by_audit.setdefault(AUDIT[architecture], []).extend(ranges)
    node = graph.leave(KILL_THREAD)
    for audit, ranges in reversed(by_audit.items()):
        search = _search(graph, _complete(graph, audit, ranges, profile.default))
        node = graph.test(EQUAL, audit, graph.load(NUMBER, search), node)
    return graph.assemble(graph.load(ARCHITECTURE, node))


def _calls(profile: Profile, architecture: str, table: Table) -> dict[int, Call]:
    """Number -> verdicts, as the rules say."""
    found: dict[int, Call] = {}
    narrow = architecture in NARROW
    for rule in profile.rules:
        if rule.action == profile.default:
            continue
        conditions = [item for item in rule.conditions if not always(item, narrow)]
        for name in rule.names:
            if architecture == "x86" and name in MULTIPLEXED:
                common, selector = MULTIPLEXED[name]
                # The real arguments are behind a pointer; what was said about the first one is lost.
                rest = [item for item in conditions if item.index]
                case = [Condition(0, "EQ", selector, 0), *rest]
                found.setdefault(table[common], Call()).add(case, rule.action)
            if name in table:
                found.setdefault(table[name], Call()).add(conditions, rule.action)
    return found


def _ranges(
    graph: Graph, profile: Profile, architecture: str, table: Table, *, unknown_calls: bool
) -> list[tuple[int, int]]:
    """(first number, node): up to the next one's first number, in order."""
    base = X32_BIT if architecture == "x32" else 0
    narrow = architecture in NARROW
    default = graph.leave(profile.default)
    ranges = [(base, default)]
    next_one = base
    for number, call in sorted(_calls(profile, architecture, table).items()):
        if number > next_one:
            ranges.append((next_one, default))
        node = graph.leave(profile.default if call.action is None else call.action)
        for conditions, action in reversed(call.cases):
            verdict = graph.leave(action)
            after = node
            node = verdict
            for condition in reversed(conditions):
                node = compare(graph, condition, narrow, node, after)
        ranges.append((number, node))
        next_one = number + 1
    ranges.append((next_one, default))
    last = _last(profile.rules, table)
    if unknown_calls and not profile.permissive and last:
        ranges = [item for item in ranges if item[0] <= last]
        ranges.append((last + 1, graph.leave(_NOT_THERE)))
    return ranges


def _last(rules: list[Rule], table: Table) -> int:
    return max((table[name] for rule in rules for name in rule.names if name in table), default=0)


def _complete(
    graph: Graph, audit: int, ranges: list[tuple[int, int]], default: int
) -> list[tuple[int, int]]:
    """In order, without neighbours of one verdict, and with what x86-64 and x32 are to each other."""
    whole = sorted(ranges, key=lambda item: item[0])  # stable: of one number the last counts
    if audit == AUDIT["x32"]:
        strangers = graph.leave(KILL_THREAD)
        if all(first < X32_BIT for first, _ in whole):
            whole += [(X32_BIT, strangers), (_CANCELLED, graph.leave(default))]
        elif whole[0][0] >= X32_BIT:
            whole.insert(0, (0, strangers))
    merged: list[tuple[int, int]] = []
    for first, node in whole:
        if merged and merged[-1][0] == first:
            merged.pop()
        if not merged or merged[-1][1] != node:
            merged.append((first, node))
    return merged


def _search(graph: Graph, ranges: list[tuple[int, int]]) -> int:
    """Node of a binary search for the range that holds the number."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    lower = _search(graph, ranges[:middle])
    return graph.test(GREATER_EQUAL, ranges[middle][0], _search(graph, ranges[middle:]), lower)
