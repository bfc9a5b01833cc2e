"""Runs on the managed host: the kind `group`: a group in /etc/group."""

from __future__ import annotations

import grp
from dataclasses import dataclass
from typing import Literal

from .agent.host import Host
from .contract.change import Action, Change, Reason
from .contract.fields import check_account


@dataclass(frozen=True)
class Spec:
    """A group; without `gid` the host chooses one (below 1000 for a `system` group)."""

    name: str
    gid: int | None = None
    system: bool = False
    state: Literal["present", "absent"] = "present"

    def __post_init__(self) -> None:
        """Raise FieldError (the controller adds file and line) for what no host could make."""
        check_account(self.name, "name")


@dataclass(frozen=True)
class Observed:
    """The group as it is."""

    gid: int


def observe(spec: Spec, host: Host) -> Observed | None:
    try:
        return Observed(grp.getgrnam(spec.name).gr_gid)
    except KeyError:
        return None


def diff(spec: Spec, observed: Observed | None) -> list[Change]:
    if spec.state == "absent":
        return [] if observed is None else [Change(Action.DELETE, reason=Reason.UNWANTED)]
    if observed is None:
        return [Change(Action.CREATE, "gid", after=spec.gid, reason=Reason.ABSENT)]
    if spec.gid is not None and spec.gid != observed.gid:
        return [Change(Action.UPDATE, "gid", observed.gid, spec.gid)]
    return []


def apply(spec: Spec, observed: Observed | None, changes: list[Change], host: Host) -> None:
    from .agent.accounts import change_account

    if spec.state == "absent":
        change_account(["groupdel", spec.name])
        return
    options = ["--gid", str(spec.gid)] if spec.gid is not None else []
    if observed is None:
        change_account(["groupadd", *options, *(["--system"] if spec.system else []), spec.name])
    elif options:
        change_account(["groupmod", *options, spec.name])


def undo(spec: Spec, observed: Observed | None, host: Host) -> Spec | None:
    if observed is None:
        return Spec(spec.name, state="absent")
    return Spec(spec.name, gid=observed.gid)
