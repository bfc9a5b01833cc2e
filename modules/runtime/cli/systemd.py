"""Runs on the managed host: `--systemd-cgroup`: the container's cgroup is a scope that systemd has made.

The scope needs a process from its beginning: a *holder* that `systemd-run` puts there and becomes, and that
ends with its standard input, so at the latest with this process. systemd removes a scope that is empty.
Source: systemd.scope(5), systemd-run(1), systemd.resource-control(5), the CGROUP_DELEGATION document.
"""

from __future__ import annotations

import os
import signal

from ..config import Config, RuntimeFailure, section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RUNS = "/run/systemd/system"
_SLICE, _PREFIX = "system.slice", "hostctl"
_PROPERTY = "org.systemd.property."
_HOLD = "echo; exec cat >/dev/null"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Scope:
    """A scope's name and its slice; `path` is its cgroup, from the root of the hierarchies."""

    def __init__(self, slice: str, unit: str) -> None:
        self.slice = slice
        self.unit = unit
        self.path = "/".join(filter(None, (_root(), *_parents(slice), unit)))


def scope(config: Config, identifier: str) -> Scope:
    """What `linux.cgroupsPath` means here: SLICE:PREFIX:NAME, each of which has a default.

    Raises:
        RuntimeFailure: there is no systemd, or the path is not of that form.
    """
    if not os.path.isdir(_RUNS):
        raise RuntimeFailure(
            f"cannot create {identifier}: --systemd-cgroup needs systemd, and none runs here",
            hint="leave --systemd-cgroup out (podman: --cgroup-manager cgroupfs)",
            ref="no-systemd",
        )
    wanted = str(section(config, "linux", "cgroupsPath") or "")
    words = wanted.split(":") if wanted else ["", _PREFIX, identifier]
    if len(words) != 3 or not words[2] or "/" in wanted:
        raise RuntimeFailure(
            f"cannot create {identifier}: with --systemd-cgroup linux.cgroupsPath is SLICE:PREFIX:NAME, "
            f"not {wanted}",
            hint="correct it in config.json, or leave --systemd-cgroup out",
            ref="bad-cgroup-path",
        )
    slice, prefix, name = words
    slice = slice or _SLICE
    if not slice.endswith(".slice"):
        raise RuntimeFailure(
            f"cannot create {identifier}: {slice} is no slice", ref="bad-cgroup-path"
        )
    if name.endswith(".slice"):
        raise RuntimeFailure(
            f"cannot create {identifier}: a container cannot be a slice: {name}",
            hint="linux.cgroupsPath is SLICE:PREFIX:NAME, and NAME that of the container",
            ref="bad-cgroup-path",
        )
    return Scope(slice, f"{prefix}-{name}.scope" if prefix else f"{name}.scope")


def _parents(slice: str) -> list[str]:
    """`a-b.slice` lies in `a.slice` (systemd.slice(5)); `-.slice` is the root of all."""
    words = slice[: -len(".slice")].split("-")
    if words == ["", ""]:
        return []
    return [f"{'-'.join(words[:count])}.slice" for count in range(1, len(words) + 1)]


def _root() -> str:
    """Where systemd's own tree begins: it is in `init.scope` there."""
    return _of(1).rpartition("init.scope")[0].strip("/")


def _of(pid: int) -> str:
    """The cgroup in which systemd has a process."""
    found = ""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as stream:
        for line in stream:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers == "name=systemd":
                return path
            if not controllers:
                found = path
    return found


class Holder:
    """Keeps a new scope until the container is in it."""

    def __init__(self, wanted: Scope, config: Config) -> None:
        """Have it made. Raises RuntimeFailure with systemd's own words."""
        argv = ["systemd-run", "--scope", "--collect", "--quiet", "--unit", wanted.unit]
        argv += ["--slice", wanted.slice]
        for item in ("Delegate=yes", *properties(config)):
            argv += ["--property", item]
        argv += ["/bin/sh", "-c", _HOLD]
        # Its input ends with us; it says one line once it is there.
        theirs, self._input = os.pipe()
        told, tells = os.pipe()
        said = os.memfd_create("said")
        try:
            actions = [(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate((theirs, tells, said))]
            environment = {"PATH": _PATH, "LANG": "C.UTF-8"}
            self.pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
            os.close(tells)
            tells = -1
            if os.read(told, 1):
                self._check(wanted)
                return
            text = os.pread(said, 4096, 0).decode(errors="replace")
            self.close()
            raise RuntimeFailure(
                f"cannot make the scope {wanted.unit}: {' '.join(text.split()) or 'systemd-run ended'}",
                ref="no-scope",
            )
        except FileNotFoundError as error:
            raise RuntimeFailure(
                f"cannot make the scope {wanted.unit}: there is no systemd-run", ref="no-scope"
            ) from error
        finally:
            for fd in (theirs, told, tells, said):
                if fd >= 0:
                    os.close(fd)

    def _check(self, wanted: Scope) -> None:
        place = _of(self.pid).strip("/")
        if place != wanted.path:
            self.close()
            raise RuntimeFailure(
                f"cannot use the scope {wanted.unit}: systemd has it at {place}, not at {wanted.path}",
                ref="no-scope",
            )

    def close(self) -> None:
        os.close(self._input)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)


def properties(config: Config) -> list[str]:
    """`NAME=VALUE` of what the bundle wants of the scope, and of its limits, which systemd may write anew."""
    found = limits(section(config, "linux", "resources") or {})
    for name, value in (config.get("annotations") or {}).items():
        if name.startswith(_PROPERTY):
            found.append(_property(name[len(_PROPERTY) :], str(value)))
    return found


def limits(resources: dict[str, Any]) -> list[str]:
    """The same of `linux.resources` alone."""
    found = []
    memory = (resources.get("memory") or {}).get("limit") or 0
    if memory:
        found.append(f"MemoryMax={memory if memory > 0 else 'infinity'}")
    pids = (resources.get("pids") or {}).get("limit") or 0
    if pids:
        found.append(f"TasksMax={pids if pids > 0 else 'infinity'}")
    cpu = resources.get("cpu") or {}
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 100_000
    if quota > 0:
        found.append(f"CPUQuota={max(1, round(quota * 100 / period))}%")
    return found


def _property(name: str, value: str) -> str:
    """An annotation has D-Bus' name and a GVariant: `TimeoutStopUSec`, `uint64 5000000`; `'text'`; `true`."""
    text = value.rpartition(" ")[2] if value[:1] not in "'\"" else value[1:-1]
    if name.endswith("USec"):
        return f"{name[:-4]}Sec={text}us"
    return f"{name}={text}"


def update(unit: str, resources: dict[str, Any]) -> None:
    """Tell systemd of changed limits, which it would else put back. Raises RuntimeFailure."""
    wanted = limits(resources)
    if wanted:
        _systemctl("set-property", "--runtime", unit, *wanted)


def stop(unit: str) -> None:
    """Have it forget the scope; one that it does not know any more is fine."""
    try:
        _systemctl("stop", unit)
    except RuntimeFailure:
        pass
    try:
        _systemctl("reset-failed", unit)
    except RuntimeFailure:
        pass


def _systemctl(*words: str) -> None:
    said = os.memfd_create("said")
    try:
        argv = ["systemctl", "--quiet", *words]
        actions = [(os.POSIX_SPAWN_DUP2, said, number) for number in (1, 2)]
        pid = os.posix_spawnp(argv[0], argv, {"PATH": _PATH}, file_actions=actions)
        if os.waitpid(pid, 0)[1]:
            text = os.pread(said, 4096, 0).decode(errors="replace")
            raise RuntimeFailure(
                f"cannot have systemd {words[0]} the scope: {' '.join(text.split())}",
                ref="no-scope",
            )
    finally:
        os.close(said)
