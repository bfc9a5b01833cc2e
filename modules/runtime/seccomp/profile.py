"""Runs on the managed host, in the agent: Docker's profiles as `linux.seccomp` of config.json.

A profile in Docker's format says more than the runtime's: a rule may hold for some capabilities,
architectures or kernels only. `docker_default.json` has the rules of today's Docker's default profile
(moby/profiles, seccomp/default.json of 2026, Copyright Docker, Inc., Apache License 2.0, as hostctl's own),
taken in by scripts/make-seccomp-data. Source of the conditions' meaning:
https://docs.docker.com/engine/security/seccomp/ and seccomp_linux.go beside the profile.
"""

from __future__ import annotations

import functools
import json
import os

from ..config import RuntimeFailure
from . import tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Go's and the profiles' names of the tables' architectures.
_NAMES = {"x86_64": "amd64", "x86": "x86", "aarch64": "arm64", "arm": "arm"}
_TOKENS = {
    "x86_64": "SCMP_ARCH_X86_64",
    "x86": "SCMP_ARCH_X86",
    "aarch64": "SCMP_ARCH_AARCH64",
    "arm": "SCMP_ARCH_ARM",
}
_KEPT = ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")


def default_profile(
    capabilities: set[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """Docker's default profile for a container with these capabilities (its bounding set).

    Args:
        machine: as `uname -m` says.
        kernel: version and major revision, such as (6, 1).
    Raises:
        RuntimeFailure: there is no table of system calls for the machine.
    """
    found = lower(_docker_default(), capabilities, machine, kernel)
    assert found is not None
    return found


def kernel_version() -> tuple[int, int]:
    """Version and major revision of this host's kernel; of 6.1.0-18-amd64 they are 6 and 1."""
    major, _, rest = os.uname().release.partition(".")
    digits = "".join(letter if letter.isdigit() else " " for letter in rest).split()
    return int(major), int(digits[0]) if digits else 0


def for_container(
    capabilities: list[str], choice: str = "", *, privileged: bool = False
) -> dict[str, Any] | None:
    """`linux.seccomp` of a container of this host, as Docker chooses it; None for no filter.

    Args:
        capabilities: its bounding set.
        choice: the value of `security_opt`'s `seccomp`: empty, `builtin`, `unconfined`, or a profile's JSON.
        privileged: the container is; then only a profile of its own filters.
    Raises:
        RuntimeFailure: the profile cannot be used, or there is no table for this machine.
    """
    if choice == "unconfined" or (privileged and choice in ("", "builtin")):
        return None
    machine, kernel = os.uname().machine, kernel_version()
    if choice in ("", "builtin"):
        return default_profile(set(capabilities), machine, kernel)
    where = "security_opt: seccomp"
    return lower(read(choice, where), set(capabilities), machine, kernel, where)


def read(text: bytes | str, where: str) -> dict[str, Any]:
    """A user's profile file, in Docker's format or as `linux.seccomp`.

    Args:
        where: what the error names: the file, or the key of the playbook.
    Raises:
        RuntimeFailure: it is not a JSON object.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RuntimeFailure(
            f"cannot read the seccomp profile: {error}",
            where=where,
            hint="it must be JSON in Docker's format; `seccomp=unconfined` uses none",
            ref="bad-seccomp",
        ) from error
    if not isinstance(found, dict):
        raise _bad("the file is no object {...}", where)
    return found


def lower(
    profile: dict[str, Any],
    capabilities: set[str],
    machine: str,
    kernel: tuple[int, int],
    where: str = "",
) -> dict[str, Any] | None:
    """The rules of a profile in Docker's format that hold here, as `linux.seccomp`.

    Returns:
        None where the profile has neither rules nor a default: Docker then filters nothing.
    Raises:
        RuntimeFailure: two keys of it exclude each other, or a condition cannot be read. What is wrong
            with the rest `spec.parse` says.
    """
    if not profile.get("defaultAction") and not profile.get("syscalls"):
        return None
    own = tables.native(machine)
    if profile.get("architectures") and profile.get("archMap"):
        raise _bad("both `architectures` and `archMap` are in it: keep one", where)
    lowered: dict[str, Any] = {"defaultAction": profile.get("defaultAction")}
    lowered.update({key: profile[key] for key in _KEPT if profile.get(key) is not None})
    architectures = list(profile.get("architectures") or ())
    for entry in _objects(profile, "archMap", where):
        if entry.get("architecture") == _TOKENS[own]:
            architectures = [_TOKENS[own], *(entry.get("subArchitectures") or ())]
    if architectures:
        lowered["architectures"] = architectures
    lowered["syscalls"] = [
        _rule(rule, where)
        for rule in _objects(profile, "syscalls", where)
        if _holds(rule, capabilities, _NAMES[own], kernel, where)
    ]
    return lowered


def _objects(profile: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    found = profile.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _bad(f"`{key}` is no list of objects", where)
    return found


def _rule(rule: dict[str, Any], where: str) -> dict[str, Any]:
    names = rule.get("names") or []
    if rule.get("name") and names:
        raise _bad(f"both `name: {rule['name']}` and `names` are in one rule: keep one", where)
    kept: dict[str, Any] = {"names": [rule["name"]] if rule.get("name") else names}
    kept["action"] = rule.get("action")
    for key in ("errnoRet", "args"):
        if rule.get(key) is not None and rule[key] != []:
            kept[key] = rule[key]
    return kept


def _holds(
    rule: dict[str, Any], capabilities: set[str], name: str, kernel: tuple[int, int], where: str
) -> bool:
    """One reason of `excludes` suffices to leave the rule out; of `includes` all kinds must agree."""
    excludes, includes = rule.get("excludes") or {}, rule.get("includes") or {}
    if not isinstance(excludes, dict) or not isinstance(includes, dict):
        raise _bad("`includes` and `excludes` are objects with caps, arches, minKernel", where)
    if name in (excludes.get("arches") or ()) or capabilities & {*(excludes.get("caps") or ())}:
        return False
    if excludes.get("minKernel") and kernel >= _version(excludes["minKernel"], where):
        return False
    if includes.get("arches") and name not in includes["arches"]:
        return False
    if not capabilities >= {*(includes.get("caps") or ())}:
        return False
    return not includes.get("minKernel") or kernel >= _version(includes["minKernel"], where)


def _version(text: Any, where: str) -> tuple[int, int]:
    parts = str(text).split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise _bad(f"`minKernel: {text}` is no version such as 4.8", where)
    return int(parts[0]), int(parts[1])


def _bad(what: str, where: str) -> RuntimeFailure:
    return RuntimeFailure(
        f"cannot use the seccomp profile: {what}",
        where=where,
        hint="see https://docs.docker.com/engine/security/seccomp/ for the format",
        ref="bad-seccomp",
    )


@functools.lru_cache(maxsize=1)
def _docker_default() -> dict[str, Any]:
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "docker_default.json"), encoding="utf-8") as stream:
        found: dict[str, Any] = json.load(stream)
    return found
