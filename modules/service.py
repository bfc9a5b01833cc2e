"""Runs on the managed host: the kind `service`: a systemd unit, running or not, at boot or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .agent.host import Host
from .contract.change import Action, Change, Reason
from .contract.errors import CannotApply, CannotObserve


@dataclass(frozen=True)
class Spec:
    """A unit (`.service` may be left out). Empty state: as it is; `restarted`, `reloaded`: on every apply."""

    name: str
    state: Literal["", "started", "stopped", "restarted", "reloaded"] = ""
    enabled: bool | None = None
    daemon_reload: bool = False


@dataclass(frozen=True)
class Observed:
    """What systemd says: ActiveState, UnitFileState (empty: no unit file), and of the files on disk.

    Attributes:
        loaded: LoadState is `loaded`.
        stale: NeedDaemonReload: the unit's files have changed since systemd read them.
    """

    active: str
    enabled: str
    loaded: bool
    stale: bool = False


def observe(spec: Spec, host: Host) -> Observed:
    from .agent import systemd

    if not systemd.runs():
        raise CannotObserve(
            f"cannot look at service {spec.name}: systemd does not run on this host",
            hint="use `command` with the host's own service tool, or a host with systemd",
        )
    names = ("ActiveState", "UnitFileState", "LoadState", "NeedDaemonReload")
    values = systemd.properties(spec.name, names)
    state = values["LoadState"]
    if spec.enabled or spec.state not in ("", "stopped"):
        _check_usable(spec, state)
    return Observed(
        values["ActiveState"],
        values["UnitFileState"],
        state == "loaded",
        values["NeedDaemonReload"] == "yes",
    )


def _check_usable(spec: Spec, state: str) -> None:
    """Whether the unit can be started or enabled at all; what is made earlier in the run comes first."""
    if state == "not-found":
        raise CannotObserve(
            f"cannot look at service {spec.name}: there is no such unit",
            hint="does its package come first? names: `systemctl list-unit-files` on the host",
        )
    if state == "masked":
        raise CannotObserve(
            f"cannot look at service {spec.name}: it is masked",
            hint=f"somebody forbade it; if it is to run: `systemctl unmask {spec.name}` on the host",
        )
    if state in ("error", "bad-setting") and not spec.daemon_reload:
        raise CannotObserve(
            f"cannot look at service {spec.name}: systemd cannot read its unit file ({state})",
            hint=f"look at `systemctl status {spec.name}` on the host",
        )


def diff(spec: Spec, observed: Observed) -> list[Change]:
    changes = []
    if spec.daemon_reload and observed.stale:
        changes.append(Change(Action.UPDATE, "daemon_reload", "needed", "done"))
    running = observed.active in ("active", "reloading", "activating")
    if spec.enabled is not None:
        enabled = observed.enabled in ("enabled", "enabled-runtime", "static", "alias", "indirect")
        if enabled != spec.enabled and observed.enabled not in ("static", "generated"):
            changes.append(Change(Action.UPDATE, "enabled", enabled, spec.enabled))
    if spec.state == "started" and not running:
        changes.append(
            Change(Action.UPDATE, "state", observed.active, "started", Reason.NOT_RUNNING)
        )
    elif spec.state == "stopped" and running:
        changes.append(Change(Action.UPDATE, "state", observed.active, "stopped", Reason.UNWANTED))
    elif spec.state in ("restarted", "reloaded"):
        changes.append(
            Change(Action.RUN, "state", observed.active, spec.state, reason=Reason.ALWAYS)
        )
    return changes


def apply(spec: Spec, observed: Observed, changes: list[Change], host: Host) -> None:
    if spec.daemon_reload or not observed.loaded:
        _systemctl(spec, "daemon-reload")
    for change in changes:
        if change.field == "daemon_reload":
            continue
        if change.field == "enabled":
            _systemctl(spec, "enable" if spec.enabled else "disable", "--", spec.name)
        else:
            verb = {
                "started": "start",
                "stopped": "stop",
                "restarted": "restart",
                "reloaded": "reload-or-restart",
            }[spec.state]
            _systemctl(spec, verb, "--", spec.name)


def _systemctl(spec: Spec, *arguments: str) -> None:
    from .agent.run import run

    done = run(["systemctl", *arguments], timeout=180)
    if done.code != 0:
        lines = " / ".join(done.stderr.strip().splitlines()[-2:])
        raise CannotApply(
            f"cannot {arguments[0]} {spec.name}: {lines}",
            hint=f"look at `journalctl -u {spec.name} -n 20` on the host",
        )


def undo(spec: Spec, observed: Observed, host: Host) -> Spec | None:
    if not observed.loaded:
        return None
    return Spec(
        spec.name,
        state="started" if observed.active == "active" else "stopped",
        enabled=observed.enabled == "enabled" if spec.enabled is not None else None,
    )
