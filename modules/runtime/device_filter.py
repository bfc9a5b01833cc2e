"""Runs on the managed host: which device nodes a container may use: the rules, and what they come to.

The last rule that matches an access decides. Version 2 of cgroups runs a program for that
(device_program.py); version 1 keeps a list of exceptions from "all" or "nothing", which `Exceptions` is.
"""

from __future__ import annotations

import itertools
import os

from .cgroup_files import read, write_each
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ACCESS = "rwm"


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

    def line(self) -> str:
        """As version 1 takes it, and shows it in devices.list."""
        major, minor = ("*" if number < 0 else str(number) for number in (self.major, self.minor))
        return f"{self.type or 'a'} {major}:{minor} {self.access}"


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
    """Parse `resources.devices`. The default devices come last: they are always allowed.

    Without any entry all else is denied, as runc has it.
    """
    found = [_rule(entry) for entry in entries] if entries is not None else [DENY_ALL]
    if all(rule.allow for rule in found):
        return found
    return [*found, *DEFAULTS]


def _rule(entry: dict[str, Any]) -> Rule:
    kind = entry.get("type") or "a"
    access = entry.get("access") or "rwm"
    if kind not in ("a", "b", "c", "u") or set(access) - set(_ACCESS):
        raise RuntimeFailure(
            f"cannot restrict devices by type {kind!r} and access {access!r}",
            hint="type is a, b or c; access is made of r, w and m",
            ref="bad-device-rule",
        )
    major, minor = entry.get("major"), entry.get("minor")
    return Rule(
        bool(entry.get("allow")),
        "" if kind == "a" else "c" if kind == "u" else kind,
        -1 if major is None else int(major),
        -1 if minor is None else int(minor),
        "".join(letter for letter in _ACCESS if letter in access),
    )


class Exceptions:
    """What rules come to in version 1: all is allowed, or nothing, but for the exceptions.

    Attributes:
        allow: whether what is no exception is allowed.
        access: (type, major, minor) -> what differs from that.
    """

    def __init__(self, parsed: list[Rule]) -> None:
        self.allow = True
        self.access: dict[tuple[str, int, int], str] = {}
        for rule in parsed:
            self._take(rule)

    def _take(self, rule: Rule) -> None:
        if not rule.type:
            if (rule.major, rule.minor, rule.access) == (-1, -1, "rwm"):
                self.allow, self.access = rule.allow, {}
                return
            # Version 1 knows "both kinds" only together with all numbers and all accesses.
            for kind in ("b", "c"):
                self._take(Rule(rule.allow, kind, rule.major, rule.minor, rule.access))
            return
        key = (rule.type, rule.major, rule.minor)
        if rule.allow != self.allow:
            both = self.access.get(key, "") + rule.access
            self.access[key] = "".join(letter for letter in _ACCESS if letter in both)
            return
        for other in list(self.access):
            if not _covers(key, other):
                if _covers(other, key) and set(self.access[other]) & set(rule.access):
                    raise RuntimeFailure(
                        f"cannot {'allow' if rule.allow else 'deny'} device {rule.line()}: version 1"
                        " of cgroups has no exception from an exception",
                        hint="list the devices one by one instead of with *",
                        ref="bad-device-rule",
                    )
                continue
            left = "".join(letter for letter in self.access[other] if letter not in rule.access)
            if left:
                self.access[other] = left
            else:
                del self.access[other]

    def writes(self) -> list[Rule]:
        """The rules that bring a cgroup from any state to this one."""
        return [Rule(self.allow, "", -1, -1, "rwm"), *self._rules(self.access)]

    def changes(self, before: Exceptions) -> list[Rule]:
        """The rules that bring it here from there; devices allowed in both are so all the time."""
        if self.allow or before.allow:
            # A list that allows all does not show its exceptions.
            return self.writes()
        gone = {
            key: "".join(letter for letter in access if letter not in self.access.get(key, ""))
            for key, access in before.access.items()
        }
        new = {
            key: "".join(letter for letter in access if letter not in before.access.get(key, ""))
            for key, access in self.access.items()
        }
        return [
            *self._rules(new),
            *(Rule(False, *key, access) for key, access in gone.items() if access),
        ]

    def _rules(self, access: dict[tuple[str, int, int], str]) -> list[Rule]:
        return [Rule(not self.allow, *key, letters) for key, letters in access.items() if letters]


def _covers(outer: tuple[str, int, int], inner: tuple[str, int, int]) -> bool:
    same_type = outer[0] == inner[0]
    return same_type and outer[1] in (-1, inner[1]) and outer[2] in (-1, inner[2])


def set_v1(folder: str, parsed: list[Rule], *, fresh: bool) -> None:
    """Write the rules into a cgroup of version 1; only what differs where it is in use."""
    wanted = Exceptions(parsed)
    todo = wanted.writes() if fresh else wanted.changes(Exceptions(_listed(folder)))
    for allow, following in itertools.groupby(todo, lambda rule: rule.allow):
        file = "devices.allow" if allow else "devices.deny"
        write_each(os.path.join(folder, file), (rule.line() for rule in following))


def _listed(folder: str) -> list[Rule]:
    found = []
    for line in read(os.path.join(folder, "devices.list")).splitlines():
        kind, numbers, access = line.split()
        major, minor = (-1 if n == "*" else int(n) for n in numbers.split(":"))
        found.append(Rule(True, "" if kind == "a" else kind, major, minor, access))
    return found if any(not rule.type for rule in found) else [DENY_ALL, *found]
