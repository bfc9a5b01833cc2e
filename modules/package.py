"""Runs on the managed host: the kind `package`: packages of the distribution, through apt.

What is installed is read from dpkg's own status file; what an installation would bring along is asked
from apt's simulation, so that the plan names every package and destroy removes exactly those.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from .agent.host import Host
from .contract.change import UNKNOWN, Action, Change, Reason
from .contract.errors import CannotApply, CannotObserve
from .contract.fields import Short

STATUS = "/var/lib/dpkg/status"
LISTS = "/var/lib/apt/lists"


def parse_names(value: Any) -> Any:
    """Names from a string ("nginx" or "nginx, curl") or a list."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value


@dataclass(frozen=True)
class Spec:
    """Packages, as `NAME` or `NAME=VERSION`. `latest` also upgrades what is installed.

    `purge` and `autoremove` concern removal: configuration too, and what nothing needs any more.
    """

    name: Annotated[tuple[str, ...], Short(parse_names)]
    state: Literal["present", "absent", "latest"] = "present"
    update_cache: bool = False
    install_recommends: bool = True
    purge: bool = False
    autoremove: bool = False


@dataclass(frozen=True)
class Observed:
    """Installed versions by name, and what apt would do: name -> version for each package it would install.

    `planned` is None where apt cannot know (its lists are missing or older than the package).
    """

    installed: dict[str, str]
    planned: dict[str, str] | None
    broken: bool = False


def observe(spec: Spec, host: Host) -> Observed:
    if not os.path.exists(STATUS):
        raise CannotObserve(
            "cannot look at packages: this host has no dpkg",
            hint="packages are supported on Debian and its family so far",
        )
    with open(STATUS, "rb") as stream:
        status = stream.read()
    installed = {}
    broken = False
    for wanted in spec.name:
        name = wanted.partition("=")[0]
        version, half = _installed(status, name)
        broken = broken or half
        if version:
            installed[name] = version
    if spec.state == "absent":
        return Observed(installed, {}, broken)
    missing = [name for name in spec.name if not _satisfied(name, installed)]
    if spec.state == "latest":
        missing = list(spec.name)
    return Observed(installed, _simulate(spec, missing) if missing else {}, broken)


def _installed(status: bytes, name: str) -> tuple[str, bool]:
    """(version or empty, half installed) from the stanza of `name` in dpkg's status file, deb-control(5)."""
    start = 0
    head = f"Package: {name}\n".encode()
    while True:
        start = status.find(head, start)
        if start < 0:
            return "", False
        if start == 0 or status[start - 1 : start] == b"\n":
            break
        start += 1
    end = status.find(b"\n\n", start)
    fields = dict(
        line.split(": ", 1)
        for line in status[start : end if end > 0 else None].decode(errors="replace").split("\n")
        if ": " in line and not line.startswith(" ")
    )
    state = fields.get("Status", "").split()[-1:]
    half = state not in (["installed"], ["config-files"], ["not-installed"])
    return (fields.get("Version", "") if state == ["installed"] or half else ""), half


def _satisfied(wanted: str, installed: dict[str, str]) -> bool:
    name, _, version = wanted.partition("=")
    return name in installed and (not version or installed[name] == version)


def _simulate(spec: Spec, names: list[str]) -> dict[str, str] | None:
    """`apt-get --simulate install`: package -> version of each `Inst` line; None where apt knows too little."""
    from .agent.run import run

    done = run(["apt-get", "--simulate", "--quiet", *_options(spec), "install", "--", *names])
    if done.code != 0:
        return None
    planned = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if words[:1] == ["Inst"]:
            version = next((word for word in words[2:] if word.startswith("(")), "")
            planned[words[1].partition(":")[0]] = version.lstrip("(").rstrip(")")
    return planned


def diff(spec: Spec, observed: Observed) -> list[Change]:
    if spec.state == "absent":
        return [
            Change(Action.DELETE, name, before=version, reason=Reason.UNWANTED)
            for name, version in sorted(observed.installed.items())
        ]
    changes = []
    planned = observed.planned
    for wanted in spec.name:
        name, _, version = wanted.partition("=")
        before = observed.installed.get(name)
        after: Any = version or (planned.get(name) if planned is not None else UNKNOWN)
        if before is None:
            note = "" if planned is not None else "apt's lists are fetched first"
            after = UNKNOWN if after is None else after
            changes.append(
                Change(Action.CREATE, name, after=after, reason=Reason.ABSENT, note=note)
            )
        elif (version and before != version) or (planned and name in planned):
            changes.append(Change(Action.UPDATE, name, before, after))
    asked = {wanted.partition("=")[0] for wanted in spec.name}
    for name, version in sorted((planned or {}).items()):
        if name not in asked:
            changes.append(
                Change(
                    Action.CREATE, name, after=version, reason=Reason.DEPENDENCY, note="comes along"
                )
            )
    if observed.broken and not changes:
        changes.append(Change(Action.UPDATE, "state", "half installed", "installed"))
    return changes


def apply(spec: Spec, observed: Observed, changes: list[Change], host: Host) -> None:
    from .agent.run import run

    if observed.broken:
        run(["dpkg", "--configure", "-a", "--force-confold"], env=_ENV, timeout=900)
    if spec.state == "absent":
        verb = "purge" if spec.purge else "remove"
        auto = ["--auto-remove"] if spec.autoremove else []
        _apt(spec, [verb, *auto, "--", *sorted(observed.installed)], host)
        return
    names = [
        name
        for name in spec.name
        if spec.state == "latest" or not _satisfied(name, observed.installed)
    ]
    if not names:
        return
    if spec.update_cache or observed.planned is None:
        host.progress("fetching apt's lists")
        _apt(spec, ["update"], host)
    _apt(spec, ["install", "--", *names], host)


_ENV = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_MODE": "l",
}


def _options(spec: Spec) -> list[str]:
    return [] if spec.install_recommends else ["--no-install-recommends"]


def _apt(spec: Spec, arguments: list[str], host: Host) -> None:
    from .agent.run import run

    host.progress(f"apt-get {arguments[0]}")
    done = run(
        [
            "apt-get",
            "--yes",
            "--quiet",
            *_options(spec),
            "-oDpkg::Options::=--force-confdef",
            "-oDpkg::Options::=--force-confold",
            "-oDPkg::Lock::Timeout=120",
            "-oAPT::Get::Assume-Yes=true",
            *arguments,
        ],
        env=_ENV,
        timeout=1800,
    )
    if done.code != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg:"))]
        why = " / ".join(errors[-3:] or done.stderr.strip().splitlines()[-3:])
        raise CannotApply(f"cannot {arguments[0]} {', '.join(spec.name)}: {why}", hint=_hint(why))


def _hint(why: str) -> str:
    if "Unable to locate" in why or "has no installation candidate" in why:
        return (
            "check the name with `apt-cache search NAME` on the host, or set `update_cache: true`"
        )
    if "lock" in why:
        return "another apt or dpkg runs on the host; apply again when it has finished"
    if "ermission denied" in why or "are you root" in why:
        return "set `become: true`"
    return "look at /var/log/apt/term.log on the host"


def undo(spec: Spec, observed: Observed, host: Host) -> Spec | None:
    asked = [wanted.partition("=")[0] for wanted in spec.name]
    if spec.state == "absent":
        return Spec(tuple(asked)) if observed.installed else None
    new = [name for name in asked if name not in observed.installed]
    new += sorted(
        name for name in observed.planned or {} if name not in (*observed.installed, *new)
    )
    if not new:
        return None
    return Spec(tuple(new), "absent", purge=True, autoremove=observed.planned is None)
