"""Filters of system calls against libseccomp's: the same verdict for every call, architecture and argument."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hostctl_host.runtime.config import RuntimeFailure
from hostctl_host.runtime.seccomp import graph, profile, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.seccomp_reference import (
    ACTIONS,
    OPERATORS,
    Code,
    decode,
    name_of,
    number_of,
    ours,
    reference,
    run,
)

DEFAULT_CAPABILITIES = {
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
}
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026
X32 = 0x40000000
WITH_CONDITIONS = ("clone", "personality", "socket", "socketcall", "ipc")
FAMILIES = {"x86_64": ("x86_64", "x86", "x32"), "aarch64": ("aarch64", "arm")}
NUMBERS = {
    "x86_64": [*range(480), X32 - 1, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF],
    "x86": [*range(480), X32, 0xFFFFFFFF],
    "x32": [X32 | number for number in range(600)],
    "aarch64": [*range(480), X32],
    "arm": [*range(480), *range(0xF0000, 0xF0008)],
}
ARGUMENTS = [
    (0,) * 6,
    (1 << 32,) * 6,
    (0xFFFFFFFF,) * 6,
    (0xFFFFFFFFFFFFFFFF,) * 6,
    (8,) * 6,
    (0x20008,) * 6,
    (0x10000000,) * 6,
    (40, 0, 0, 0, 0, 0),
    # Families of sockets about the edges of what Docker lets in.
    *((family, 0, 0, 0, 0, 0) for family in (11, 12, 13, 18, 19, 33, 34, 36, 37, 38, 45, 46)),
    *((number, 40, 0, 0, 0, 0) for number in (1, 2, 3, 8, 15, 18, 20, 21)),
]


def disagreements(left: Code, right: Code, architecture: str) -> list[tuple[Any, ...]]:
    """Where two programs differ, but for calls whose names only hostctl's tables have: see the newest."""
    named = {number: name_of(architecture, number) for number in NUMBERS[architecture]}
    newer = set(tables.load([architecture])[architecture].values())
    named = {number: name for number, name in named.items() if name or number not in newer}
    return [
        (name, number, arguments, hex(one), hex(other))
        for number, name in named.items()
        for arguments in (ARGUMENTS if name in WITH_CONDITIONS else ARGUMENTS[2:4])
        if (one := run(left, architecture, number, arguments))
        != (other := run(right, architecture, number, arguments))
    ]


def test_tables_are_libseccomps() -> None:
    """Each number that libseccomp knows has the same name here; ours may know newer calls only."""
    shipped = tables.load([*NUMBERS])
    for architecture, table in shipped.items():
        bit = X32 if architecture == "x32" else 0
        by_number = {number: name for name, number in table.items()}
        assert len(by_number) == len(table)
        for number in (*range(2000), *range(0xF0001, 0xF0006)):
            known = name_of(architecture, number | bit)
            if known:
                assert by_number[number | bit] == known, architecture
        for name, number in table.items():
            theirs = number_of(architecture, name)
            assert theirs == number or theirs < 0, (architecture, name)
            if theirs == -1:
                assert number & ~X32 > 456 or name in ("uretprobe", "uprobe"), name


@pytest.mark.parametrize("machine", FAMILIES)
@pytest.mark.parametrize("more", [(), ("CAP_SYS_ADMIN",), ("CAP_SYS_PTRACE", "CAP_BPF")])
def test_dockers_profile(machine: str, more: tuple[str, ...]) -> None:
    wanted = profile.default_profile({*DEFAULT_CAPABILITIES, *more}, machine, (6, 1))
    left = decode(reference(wanted, machine))
    right = decode(ours(wanted, machine))
    assert len(right) < len(left) * 0.6
    for architecture in FAMILIES[machine]:
        assert disagreements(left, right, architecture) == []


def test_the_newest_calls_are_known_by_name() -> None:
    """What libseccomp has no name for yet, and so lets nobody use."""
    wanted = profile.default_profile(DEFAULT_CAPABILITIES, "x86_64", (6, 1))
    code = decode(ours(wanted, unknown_calls=True))
    shipped = tables.load(["x86_64"])["x86_64"]
    newer = {name for name in shipped if number_of("x86_64", name) == -1}
    allowed = {n for n in newer if run(code, "x86_64", shipped[n], (0,) * 6) == ALLOW}
    named = {name for rule in wanted["syscalls"] for name in rule["names"]}
    assert allowed == newer & named
    assert {"statmount", "mseal", "getxattrat", "uretprobe"} <= allowed
    assert {"lsm_get_self_attr", "uprobe"} <= newer - allowed


def test_io_uring_and_odd_families_of_sockets_are_refused() -> None:
    """As in today's Docker: their many faults in the kernel were ways out of containers."""
    code = decode(ours(profile.default_profile(DEFAULT_CAPABILITIES, "x86_64", (6, 1))))
    for name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
        assert run(code, "x86_64", number_of("x86_64", name), (0,) * 6) == EPERM
    families = {f for f in range(64) if run(code, "x86_64", 41, (f, 0, 0, 0, 0, 0)) == ALLOW}
    assert {1, 2, 10, 16, 17} <= families  # UNIX, INET, INET6, NETLINK, PACKET
    assert families.isdisjoint({12, 38, 40})  # DECNET, ALG, VSOCK


def test_other_architectures_are_killed() -> None:
    wanted = profile.default_profile(set(), "x86_64", (6, 1))
    code = decode(ours(wanted))
    assert run(code, "aarch64", 63, (0,) * 6) == ACTIONS["KILL"]
    alone = decode(ours({**wanted, "architectures": ["SCMP_ARCH_X86_64"]}))
    assert run(alone, "x86", 3, (0,) * 6) == run(alone, "x32", X32, (0,) * 6) == ACTIONS["KILL"]
    assert run(alone, "x86_64", 0, (0,) * 6) == ALLOW


def test_a_call_is_found_by_few_comparisons() -> None:
    """read(2) and the rest cost ten steps, not a walk along all rules."""
    code = decode(ours(profile.default_profile(DEFAULT_CAPABILITIES, "x86_64", (6, 1))))
    for number in range(460):
        if name_of("x86_64", number) not in ("clone", "personality", "socket"):
            assert steps(code, number) <= 14


def steps(code: Code, number: int) -> int:
    class Counting(list):  # type: ignore[type-arg]
        taken = 0

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            self.taken += 1
            return super().__getitem__(index)

    counting = Counting(code)
    run(counting, "x86_64", number, (0,) * 6)
    return counting.taken


def test_newer_calls_do_not_exist() -> None:
    """As with runc: what the profile's author cannot have known is ENOSYS, not EPERM."""
    wanted = profile.default_profile(DEFAULT_CAPABILITIES, "x86_64", (6, 1))
    code = decode(ours(wanted, unknown_calls=True))
    verdicts = [run(code, "x86_64", number, (0,) * 6) for number in range(476)]
    # clone3, and 467 to 475; removexattrat is the newest in the profile.
    assert [n for n, verdict in enumerate(verdicts) if verdict == ENOSYS] == [435, *range(467, 476)]
    # One more than a probe of all sees: that of rt_sigreturn or the like ends the process that asks.
    assert verdicts.count(EPERM) == 157
    assert run(code, "x86", 470, (0,) * 6) == run(code, "x32", X32 | 548, (0,) * 6) == ENOSYS
    assert run(code, "x86_64", X32 - 1, (0,) * 6) == ENOSYS
    rest = {key: value for key, value in wanted.items() if key != "defaultErrnoRet"}
    for permissive in ("ALLOW", "LOG", "TRACE"):
        lax = decode(ours({**rest, "defaultAction": f"SCMP_ACT_{permissive}"}, unknown_calls=True))
        assert run(lax, "x86_64", 475, (0,) * 6) != ENOSYS


ACTION_NAMES = [f"SCMP_ACT_{name}" for name in ACTIONS if name != "NOTIFY"]
NAMES = ["read", "clone", "ioctl", "io_uring_setup", "socket", "shmat", "recvmsg", "no_such_call"]
# Without a number on x86-64. With x32 beside it, libseccomp's filter then may forget to load the number.
ONLY_X86 = ["waitpid", "chown32"]
INTERESTING = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 64) - 1]
values = st.one_of(st.sampled_from(INTERESTING), st.integers(0, (1 << 64) - 1))


@st.composite
def profiles(draw: st.DrawFn, *, several: bool) -> dict[str, Any]:
    """Any profile; unless `several`, at most one rule a call, and no argument twice in it."""
    action = st.sampled_from(ACTION_NAMES)
    tokens = st.sampled_from(["X86_64", "X86", "X32"])
    architectures = draw(st.lists(tokens, unique=True, max_size=3))
    pool = NAMES if "X32" in architectures else [*NAMES, *ONLY_X86]
    one_name = st.lists(st.sampled_from(pool[:3] if several else pool), min_size=1, max_size=1)
    rules = []
    for names in draw(
        st.lists(one_name, max_size=6, unique_by=None if several else lambda item: item[0])
    ):
        rule = {"names": names, "action": draw(action)}
        if rule["action"].endswith(("ERRNO", "TRACE")) and draw(st.booleans()):
            rule["errnoRet"] = draw(st.integers(0, 4094))
        indexes = draw(st.lists(st.integers(0, 5), max_size=3, unique=not several))
        rule["args"] = [
            {
                "index": index,
                "op": f"SCMP_CMP_{draw(st.sampled_from([*OPERATORS]))}",
                "value": draw(values),
                "valueTwo": draw(values),
            }
            for index in indexes
        ]
        rules.append(rule)
    return {
        "defaultAction": draw(action),
        "architectures": [f"SCMP_ARCH_{name}" for name in architectures],
        "syscalls": rules,
    }


def near(wanted: dict[str, Any]) -> set[tuple[int, ...]]:
    """Arguments around the values that the profile compares with."""
    found = {(0,) * 6, ((1 << 64) - 1,) * 6}
    for argument in (a for rule in wanted["syscalls"] for a in rule["args"]):
        for value in (argument["value"], argument["valueTwo"]):
            for one in (value, value + 1, value - 1, value ^ (1 << 32)):
                filled = [one % (1 << 64)] * 6
                found.add(tuple(filled))
                filled[0] = 1  # the number of socket in socketcall
                found.add(tuple(filled))
    return found


@settings(max_examples=60, deadline=None)
@given(profiles(several=False))
def test_any_profile(wanted: dict[str, Any]) -> None:
    left, right = decode(reference(wanted)), decode(ours(wanted))
    for architecture in ("x86_64", "x86", "x32"):
        numbers = {number_of(architecture, rule["names"][0]) for rule in wanted["syscalls"]}
        numbers |= {0, 102, 117, 499, X32, X32 | 499, 0xFFFFFFFF}
        for number, arguments in itertools.product(
            sorted(n for n in numbers if n >= 0), near(wanted)
        ):
            one, other = (run(code, architecture, number, arguments) for code in (left, right))
            assert one == other, (architecture, number, arguments)


def by_definition(wanted: dict[str, Any], name: str, arguments: tuple[int, ...]) -> int:
    """The verdict read from the profile itself."""
    default = _value(wanted["defaultAction"], None)
    rules = [
        (rule["args"], action)
        for rule in wanted["syscalls"]
        if name in rule["names"]
        and (action := _value(rule["action"], rule.get("errnoRet"))) != default
    ]
    for conditions, action in rules:
        if all(a["op"].endswith("MASKED_EQ") and not a["value"] for a in conditions):
            return action  # nothing is compared: it beats all that compare
        twice = len({a["index"] for a in conditions}) < len(conditions)
        if twice and any(a["op"].endswith("MASKED_EQ") and not a["value"] for a in conditions):
            return action
    for conditions, action in rules:
        twice = len({a["index"] for a in conditions}) < len(conditions)
        if (any if twice else all)(_holds(a, arguments[a["index"]]) for a in conditions):
            return action
    return default


def _value(action: str, errno: int | None) -> int:
    data = (1 if errno is None else errno) if action.endswith(("ERRNO", "TRACE")) else 0
    return ACTIONS[action.removeprefix("SCMP_ACT_")] | data


def _holds(condition: dict[str, Any], argument: int) -> bool:
    value, other = condition["value"], condition["valueTwo"]
    return {
        "NE": argument != value,
        "LT": argument < value,
        "LE": argument <= value,
        "EQ": argument == value,
        "GE": argument >= value,
        "GT": argument > value,
        "MASKED_EQ": argument & value == other & value,
    }[condition["op"].removeprefix("SCMP_CMP_")]


@settings(max_examples=100, deadline=None)
@given(profiles(several=True))
def test_several_rules_for_one_call(wanted: dict[str, Any]) -> None:
    """libseccomp makes one tree of them and may lose one (two LE on one argument): here as written."""
    code = decode(ours(wanted))
    for name in NAMES[:3]:
        number = number_of("x86_64", name)
        for arguments in near(wanted):
            assert run(code, "x86_64", number, arguments) == by_definition(wanted, name, arguments)


def test_jumps_reach_across_long_programs() -> None:
    """Jumps of 8 bits, programs of thousands of instructions."""
    names = [name for number in range(335) if (name := name_of("x86_64", number))][:320]
    rules = [
        {
            "names": [name],
            "action": f"SCMP_ACT_{('ALLOW', 'TRAP', 'LOG')[index % 3]}",
            "args": [
                {"index": n, "op": "SCMP_CMP_EQ", "value": (index << 32) + n} for n in range(2)
            ],
        }
        for index, name in enumerate(names)
    ]
    wanted = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    left, right = decode(reference(wanted)), decode(ours(wanted))
    assert len(right) > 2500
    table = tables.load(["x86_64"])["x86_64"]
    for index, name in enumerate(names):
        for arguments in (((index << 32), (index << 32) + 1, 0, 0, 0, 0), (0,) * 6):
            verdicts = [run(code, "x86_64", table[name], arguments) for code in (left, right)]
            assert verdicts[0] == verdicts[1], name


def test_a_program_too_long_for_the_kernel_is_refused() -> None:
    rules = [
        {
            "names": ["ioctl"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": (number << 32) + number}],
        }
        for number in range(1, 1200)
    ]
    with pytest.raises(RuntimeFailure, match=f"takes at most {graph.MOST}") as caught:
        ours({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
    assert "fewer rules" in caught.value.hint
