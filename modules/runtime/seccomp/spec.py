"""Runs on the managed host: `linux.seccomp` of config.json, parsed and checked.

Source: OCI runtime-spec 1.2, config-linux.md, "Seccomp". Imported only where a filter has to be
compiled; a container whose filter lies beside its config.json never needs it.
"""

from __future__ import annotations

from ..config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KILL_THREAD = 0x00000000
ENOSYS = 38
_EPERM = 1
_ERRNO, _TRACE, NOTIFY = 0x00050000, 0x7FF00000, 0x7FC00000
# seccomp(2), "Return values of filters". Plain KILL ends the thread: so it was before PROCESS came.
_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
_MOST_ERRNO, _MOST_TRACE = 4094, 0xFFFF
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
# A call that the profile's author could not know of is not refused where unknown calls are let through.
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
# No process of a machine that hostctl runs on can be of these: rules for them are never asked.
_ELSEWHERE = (
    "MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC PARISC64"
    " RISCV64 LOONGARCH64 M68K SH SHEB"
)
TSYNC, LOG, SPEC_ALLOW, NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV = (1 << n for n in range(6))
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": WAIT_KILLABLE_RECV,
}
_ARGUMENTS = 6
_WORD = 1 << 64


class Condition:
    """What an argument has to be. With MASKED_EQ `value` is the mask and `other` the result."""

    def __init__(self, index: int, operator: str, value: int, other: int) -> None:
        self.index = index
        self.operator = operator
        self.value = value
        self.other = other


class Rule:
    """Names of system calls, conditions that must all hold, and the filter's return value then."""

    def __init__(self, names: list[str], conditions: list[Condition], action: int) -> None:
        self.names = names
        self.conditions = conditions
        self.action = action


class Profile:
    """`linux.seccomp`.

    Attributes:
        default: return value for calls that no rule is about.
        permissive: the default lets calls through; then unknown ones, too.
        architectures: as in the tables; those of other machines are left out.
        flags: for seccomp(2); with NEW_LISTENER where somebody has to be told.
    """

    def __init__(self, default: int, permissive: bool) -> None:
        self.default = default
        self.permissive = permissive
        self.architectures: list[str] = []
        self.rules: list[Rule] = []
        self.flags = 0


def known() -> dict[str, list[str]]:
    """The words of profiles, as the specification's features.md asks for them."""
    return {
        "actions": sorted(_ACTIONS),
        "operators": [f"SCMP_CMP_{name}" for name in _OPERATORS],
        "archs": sorted(ARCHITECTURES),
        "knownFlags": sorted(_FLAGS),
        "supportedFlags": sorted(_FLAGS),
    }


def parse(value: Any) -> Profile:
    """Raises RuntimeFailure that names the key and what may stand there."""
    where = "linux.seccomp"
    found = _mapping(value, where)
    default = _action(found, "defaultAction", "defaultErrnoRet", where)
    # Who answers is told through the container's own socket, which needs system calls.
    if default == NOTIFY:
        raise _refused(
            f"{where}.defaultAction",
            "SCMP_ACT_NOTIFY for every call: the container could not start",
            "name the calls to notify of in `syscalls`",
        )
    profile = Profile(default, found["defaultAction"] in _PERMISSIVE)
    for index, name in enumerate(_sequence(found, "architectures", where)):
        if name in ARCHITECTURES:
            profile.architectures.append(ARCHITECTURES[name])
        elif name not in [f"SCMP_ARCH_{other}" for other in _ELSEWHERE.split()]:
            raise _unknown(f"{where}.architectures[{index}]", name, [*ARCHITECTURES])
    for index, entry in enumerate(_sequence(found, "syscalls", where)):
        profile.rules += _rules(entry, f"{where}.syscalls[{index}]")
    profile.flags = _flags(found, where, notifies=any(r.action == NOTIFY for r in profile.rules))
    _check_listener(found, where, notifies=bool(profile.flags & NEW_LISTENER))
    return profile


def _action(found: dict[str, Any], key: str, errno_key: str, where: str) -> int:
    name = found.get(key)
    if name not in _ACTIONS:
        raise _unknown(f"{where}.{key}", name, [*_ACTIONS])
    data = found.get(errno_key)
    if name not in _WITH_DATA:
        if data is not None:
            raise _refused(
                f"{where}.{errno_key}",
                f"an errno with {name}, which returns none",
                f"remove it, or use {' or '.join(_WITH_DATA)}",
            )
        return _ACTIONS[name]
    highest = _MOST_TRACE if name == "SCMP_ACT_TRACE" else _MOST_ERRNO
    number = _EPERM if data is None else _number(data, highest, f"{where}.{errno_key}")
    return _ACTIONS[name] | number


def _rules(value: Any, where: str) -> list[Rule]:
    """One rule, or several where conditions are about the same argument: then one of them suffices."""
    entry = _mapping(value, where)
    names = _sequence(entry, "names", where)
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise _refused(f"{where}.names[{index}]", repr(name), "write a name, such as mount")
    if not names:
        raise _refused(f"{where}.names", "a rule for no system call", "name at least one")
    action = _action(entry, "action", "errnoRet", where)
    if action == NOTIFY and "write" in names:
        raise _refused(
            f"{where}.names",
            "SCMP_ACT_NOTIFY for write, with which the container says that it has started",
            "take write out of the rule",
        )
    conditions = [
        _condition(item, f"{where}.args[{index}]")
        for index, item in enumerate(_sequence(entry, "args", where))
    ]
    if len({condition.index for condition in conditions}) < len(conditions):
        return [Rule(names, [condition], action) for condition in conditions]
    return [Rule(names, conditions, action)]


def _condition(value: Any, where: str) -> Condition:
    entry = _mapping(value, where)
    operator = entry.get("op")
    known = [f"SCMP_CMP_{name}" for name in _OPERATORS]
    if operator not in known:
        raise _unknown(f"{where}.op", operator, known)
    return Condition(
        _number(entry.get("index"), _ARGUMENTS - 1, f"{where}.index"),
        str(operator)[len("SCMP_CMP_") :],
        _number(entry.get("value"), _WORD - 1, f"{where}.value"),
        _number(entry.get("valueTwo") or 0, _WORD - 1, f"{where}.valueTwo"),
    )


def _flags(found: dict[str, Any], where: str, *, notifies: bool) -> int:
    """Without the key only the mitigation that costs speed is left out, as crun does."""
    bits = SPEC_ALLOW if found.get("flags") is None else 0
    for index, name in enumerate(_sequence(found, "flags", where)):
        if name not in _FLAGS:
            raise _unknown(f"{where}.flags[{index}]", name, [*_FLAGS])
        bits |= _FLAGS[name]
    if not notifies:
        return bits & ~WAIT_KILLABLE_RECV
    # Both TSYNC and a listener want the call's result: then TSYNC says only that it failed.
    return bits | NEW_LISTENER | (TSYNC_ESRCH if bits & TSYNC else 0)


def _check_listener(found: dict[str, Any], where: str, *, notifies: bool) -> None:
    path, metadata = found.get("listenerPath"), found.get("listenerMetadata")
    for key, value in (("listenerPath", path), ("listenerMetadata", metadata)):
        if value is not None and not isinstance(value, str):
            raise _refused(f"{where}.{key}", repr(value), "write a text")
    if metadata and not path:
        raise _refused(
            f"{where}.listenerMetadata", "it without listenerPath", "set listenerPath as well"
        )
    if notifies and not path:
        raise _refused(
            f"{where}.listenerPath",
            "SCMP_ACT_NOTIFY without it: nobody would answer",
            "set it to the unix socket of the program that decides about the calls",
        )
    if path and not path.startswith("/"):
        raise _refused(f"{where}.listenerPath", repr(path), "write an absolute path")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refused(where, repr(value)[:60], "write an object: {...}")
    return value


def _sequence(entry: dict[str, Any], key: str, where: str) -> list[Any]:
    value = entry.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _refused(f"{where}.{key}", repr(value)[:60], "write a list: [...]")
    return value


def _number(value: Any, highest: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest:
        raise _refused(where, repr(value)[:60], f"write a number from 0 to {highest}")
    return value


def _unknown(where: str, value: Any, known: list[str]) -> RuntimeFailure:
    text = "nothing" if value is None else repr(value)[:60]
    return _refused(where, text, f"write one of {', '.join(known)}")


def _refused(where: str, what: str, hint: str) -> RuntimeFailure:
    return RuntimeFailure(
        f"cannot use {what} as {where}", where="config.json", hint=hint, ref="bad-seccomp"
    )
