"""Runs on the managed host: the kind `boot`: containers come back after a reboot, and end in order before it.

Nobody has to write it: whatever has containers needs it, and it goes with the last project that has it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .agent.host import Host, Paths
from .contract.change import Action, Change, Reason
from .contract.errors import CannotApply

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = True
WAIT_SECONDS = 30.0
LONG_START = 2.0


@dataclass(frozen=True)
class Spec:
    """The one of this host."""

    name: Literal["hostctl"]
    state: Literal["present", "absent"] = "present"


@dataclass(frozen=True)
class Observed:
    """What is there.

    Attributes:
        init: systemd, openrc, or empty: no init that can be told.
        running, core: the version of this agent, and of the one that the starter names (empty: none).
        place: the init's own file; the starter where there is no init.
        written: it has the text that it should have.
        enabled: the init starts it at boot.
        active: the init has started it, so that it will stop it.
    """

    init: str
    running: str
    core: str = ""
    place: str = ""
    written: bool = True
    enabled: bool = True
    active: bool = True

    @property
    def nothing(self) -> bool:
        return not self.core and not (self.init and (self.written or self.enabled))


def observe(spec: Spec, host: Host) -> Observed:
    from .agent import systemd, unit
    from .monitor import starter

    init = unit.init()
    core, there = unit.named(_read(unit.starter_path(host.paths)))
    running = unit.core(starter.root())
    core = core if there else ""
    if not init:
        return Observed(init, running, core, unit.starter_path(host.paths))
    place = unit.place(init, host.paths)
    written = _read(place) == unit.text(init, host.paths)
    if init == unit.SYSTEMD:
        names = ("ActiveState", "UnitFileState", "NeedDaemonReload")
        values = systemd.properties(unit.name(host.paths), names)
        written = written and values["NeedDaemonReload"] != "yes"
        enabled = values["UnitFileState"] == "enabled"
        active = values["ActiveState"] in ("active", "activating", "reloading")
        active = active and os.path.exists(_delegated(host.paths))
    else:
        enabled = os.path.lexists(unit.link(host.paths))
        own = unit.name(host.paths)
        active = _in_state(own, "started") or _in_state(own, "starting")
    return Observed(init, running, core, place, written, enabled, active)


def diff(spec: Spec, observed: Observed) -> list[Change]:
    if spec.state == "absent":
        gone = observed.nothing
        return [] if gone else [Change(Action.DELETE, reason=Reason.UNWANTED)]
    act, reason = (
        (Action.CREATE, Reason.ABSENT) if observed.nothing else (Action.UPDATE, Reason.DIFFERS)
    )
    changes = []
    if observed.core != observed.running:
        note = "" if observed.init else _NOT_AT_BOOT.format(observed.place)
        before = observed.core or None
        changes.append(Change(act, "agent", before, observed.running, reason, note=note))
    if not observed.init:
        return changes
    if not observed.written:
        before = None if observed.nothing else "missing or changed"
        changes.append(Change(act, "service", before, observed.place, reason))
    if not observed.enabled:
        known = None if observed.nothing else False
        changes.append(Change(act, "enabled", known, True, reason))
    if not observed.active:
        before = None if observed.nothing else "stopped"
        changes.append(Change(act, "state", before, "started", reason))
    return changes


_NOT_AT_BOOT = (
    "nothing starts containers at boot: there is neither systemd nor OpenRC that could be told; "
    "have the host run `sh {0} boot`, and `sh {0} shutdown` before its end"
)


def apply(spec: Spec, observed: Observed, changes: list[Change], host: Host) -> None:
    from .agent import unit
    from .agent.files import write_atomic

    paths = host.paths
    if spec.state == "absent":
        _remove(observed, paths)
        return
    import sys

    from .monitor import starter

    fields = {change.field for change in changes}
    if "agent" in fields:
        script = unit.starter(paths, starter.root(), observed.running, sys.executable)
        write_atomic(unit.starter_path(paths), script.encode(), 0o700)
    if not observed.init:
        return
    if "service" in fields:
        mode = 0o644 if observed.init == unit.SYSTEMD else 0o755
        write_atomic(observed.place, unit.text(observed.init, paths).encode(), mode)
    if observed.init == unit.SYSTEMD:
        _tell_systemd(fields, paths)
        starter.prepare(paths)
    else:
        _tell_openrc(fields, paths)


def _tell_systemd(fields: set[str], paths: Paths) -> None:
    from .agent import unit

    own = f"{unit.name(paths)}.service"
    if "service" in fields:
        _run("systemctl", "daemon-reload")
    if "enabled" in fields:
        _run("systemctl", "enable", own)
    if "state" in fields:
        # What it has to start waits for the end of this run, which therefore must not wait for it.
        _run("systemctl", "start", "--no-block", own)
        _await(own, lambda _: _begins(own), f"systemctl status {own}")
        unit.delegate(paths)


def _begins(own: str) -> bool:
    from .agent import systemd

    return systemd.properties(own, ("ActiveState",))["ActiveState"] in ("active", "activating")


def _tell_openrc(fields: set[str], paths: Paths) -> None:
    from .agent import unit

    own = unit.name(paths)
    if "enabled" in fields:
        _run("rc-update", "add", own, "default")
    if "state" in fields:
        # In a shell of its own, as above: what it has to start waits for the end of this run.
        _run("sh", "-c", 'rc-service "$1" start > /dev/null 2>&1 &', "sh", own)
        _await(own, lambda seconds: _is_started(own, seconds), f"rc-service {own} status")


def _is_started(own: str, seconds: float) -> bool:
    """Or it waits for the end of this run, to start the rest of the host's containers."""
    return _in_state(own, "started") or (seconds > LONG_START and _in_state(own, "starting"))


def _await(own: str, seen: Callable[[float], bool], look: str) -> None:
    """Until the init has started the service.

    Args:
        seen: whether it has; it is told how many seconds have passed.
        look: a command that shows why not.
    """
    import time

    began = time.monotonic()
    while not seen(time.monotonic() - began):
        if time.monotonic() > began + WAIT_SECONDS:
            raise CannotApply(
                f"cannot start {own}: it does not become active",
                hint=f"look at `{look}` on the host",
                ref="boot-failed",
            )
        time.sleep(0.01)


def _in_state(own: str, state: str) -> bool:
    """Links that OpenRC makes."""
    return os.path.lexists(f"/run/openrc/{state}/{own}")


def _remove(observed: Observed, paths: Paths) -> None:
    """The starter first: without it the service's stop touches no container, of whomever it may be."""
    from .agent import unit
    from .monitor import client, starter

    own = unit.name(paths)
    _unlink(unit.starter_path(paths))
    if observed.init == unit.SYSTEMD:
        _run("systemctl", "disable", f"{own}.service", fails=True)
        _run("systemctl", "stop", f"{own}.service", fails=True)
        _run("systemctl", "revert", f"{own}.service", fails=True)  # see `starter`
        _unlink(observed.place)
        _run("systemctl", "daemon-reload")
    elif observed.init == unit.OPENRC:
        _run("rc-update", "delete", own, "default", fails=True)
        _run("rc-service", own, "zap", fails=True)
        _unlink(observed.place)
    if not client.names(paths):
        starter.end(paths)
        _unlink(_delegated(paths))


def undo(spec: Spec, observed: Observed, host: Host) -> Spec:
    return Spec("hostctl", state="absent")


def _delegated(paths: Paths) -> str:
    from .runtime.cgroup_places import DELEGATED

    return os.path.join(paths.run, DELEGATED)


def _run(*words: str, fails: bool = False) -> None:
    from .agent.run import run

    done = run(words, timeout=120)
    if done.code != 0 and not fails:
        lines = " / ".join(done.stderr.strip().splitlines()[-2:])
        raise CannotApply(
            f"cannot run {' '.join(words[:2])}: {lines or f'exit code {done.code}'}",
            hint="correct that on the host, then apply again",
            ref="boot-failed",
        )


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""
