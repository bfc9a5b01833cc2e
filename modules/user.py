"""Runs on the managed host: the kind `user`: an account with its groups, home and shell."""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass
from typing import Any, Literal

from .agent.host import Host
from .contract.change import Action, Change, Reason
from .contract.errors import CannotObserve
from .contract.fields import check_account

HIDDEN = "(hidden)"


@dataclass(frozen=True)
class Spec:
    """An account. `password` is a crypt(5) hash; it is never shown, and never on a command line.

    `groups` are supplementary groups: exactly these, or also these with `append`.
    """

    name: str
    uid: int | None = None
    group: str = ""
    groups: tuple[str, ...] | None = None
    append: bool = False
    home: str = ""
    shell: str = ""
    comment: str | None = None
    password: str = ""
    system: bool = False
    create_home: bool = True
    remove: bool = False
    state: Literal["present", "absent"] = "present"

    def __post_init__(self) -> None:
        """Raise FieldError (the controller adds file and line) for what no host could make."""
        check_account(self.name, "name")


@dataclass(frozen=True)
class Observed:
    """The account as it is; `password` only where it is compared."""

    uid: int
    group: str
    groups: tuple[str, ...]
    home: str
    shell: str
    comment: str
    password: str = ""


def observe(spec: Spec, host: Host) -> Observed | None:
    try:
        entry = pwd.getpwnam(spec.name)
    except KeyError:
        return None
    try:
        group = grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        group = str(entry.pw_gid)
    others = sorted(g.gr_name for g in grp.getgrall() if spec.name in g.gr_mem)
    return Observed(
        uid=entry.pw_uid,
        group=group,
        groups=tuple(others),
        home=entry.pw_dir,
        shell=entry.pw_shell,
        comment=entry.pw_gecos,
        password=_hash(spec.name) if spec.password else "",
    )


def _hash(name: str) -> str:
    try:
        with open("/etc/shadow", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                fields = line.split(":")
                if fields[0] == name:
                    return fields[1]
    except OSError as error:
        raise CannotObserve(
            f"cannot compare the password of {name}: {error.strerror}", hint="set `become: true`"
        ) from error
    return ""


def diff(spec: Spec, observed: Observed | None) -> list[Change]:
    if spec.state == "absent":
        return [] if observed is None else [Change(Action.DELETE, reason=Reason.UNWANTED)]
    wanted = _wanted(spec, observed)
    if observed is None:
        shown = [Change(Action.CREATE, reason=Reason.ABSENT)]
        return shown + [
            Change(Action.CREATE, name, after=value, reason=Reason.ABSENT)
            for name, value in wanted.items()
        ]
    changes = []
    for name, value in wanted.items():
        before = getattr(observed, name)
        if name == "password":
            if before != spec.password:
                changes.append(Change(Action.UPDATE, name, HIDDEN, HIDDEN))
        elif _plain(before) != value:
            changes.append(Change(Action.UPDATE, name, _plain(before), value))
    return changes


def _wanted(spec: Spec, observed: Observed | None) -> dict[str, Any]:
    """Field -> JSON value, only of what the spec says something about."""
    groups = set(spec.groups or ())
    if spec.append and observed is not None:
        groups |= set(observed.groups)
    wanted = {
        "uid": spec.uid,
        "group": spec.group or None,
        "groups": sorted(groups) if spec.groups is not None else None,
        "home": spec.home or None,
        "shell": spec.shell or None,
        "comment": spec.comment,
        "password": HIDDEN if spec.password else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def apply(spec: Spec, observed: Observed | None, changes: list[Change], host: Host) -> None:
    from .agent.accounts import change_account

    if spec.state == "absent":
        change_account(["userdel", *(["--remove"] if spec.remove else []), spec.name])
        return
    options = _options(spec, {change.field for change in changes}, observed)
    if observed is None:
        options += ["--system"] if spec.system else []
        options += ["--create-home"] if spec.create_home else ["--no-create-home"]
        change_account(["useradd", *options, spec.name])
    elif options:
        change_account(["usermod", *options, spec.name])
    if any(change.field == "password" for change in changes):
        change_account(["chpasswd", "--encrypted"], stdin=f"{spec.name}:{spec.password}\n")


def _options(spec: Spec, fields: set[str], observed: Observed | None) -> list[str]:
    wanted = _wanted(spec, observed)
    flags = {
        "uid": "--uid",
        "group": "--gid",
        "groups": "--groups",
        "home": "--home-dir" if observed is None else "--home",
        "shell": "--shell",
        "comment": "--comment",
    }
    options = []
    for name, flag in flags.items():
        if name in fields:
            value = wanted[name]
            options += [flag, ",".join(value) if isinstance(value, list) else str(value)]
    return options


def undo(spec: Spec, observed: Observed | None, host: Host) -> Spec | None:
    if observed is None:
        return Spec(spec.name, state="absent", remove=spec.create_home)
    return Spec(
        spec.name,
        uid=observed.uid,
        group=observed.group,
        groups=observed.groups,
        home=observed.home,
        shell=observed.shell,
        comment=observed.comment,
        password=observed.password,
    )
