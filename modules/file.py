"""Runs on the managed host: the kind `file`: owner, mode, links, empty files, and removal."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from .agent.entries import (
    Entry,
    attributes,
    check_parents,
    place,
    place_link,
    read_entry,
    remove,
    set_attributes,
)
from .agent.host import Host
from .contract.change import Action, Change, Reason
from .contract.errors import CannotObserve
from .contract.filesystem import MODE, PATH

_NAMES = {"touch": "file", "hard": "hard link"}


@dataclass(frozen=True)
class Spec:
    """What lies at a path, with Ansible's states.

    file: it must exist, only its attributes change; touch: made empty where missing; directory; link: a
    symbolic link to `src`; hard: a hard link to `src`; absent: removed, whole trees included.
    `content` is set by hostctl itself only, to put a removed file back: the digest of its bytes.
    """

    path: Annotated[str, PATH]
    state: Literal["file", "touch", "directory", "link", "hard", "absent"] = "file"
    src: str = ""
    owner: str = ""
    group: str = ""
    mode: Annotated[str, MODE] = ""
    content: str = ""


@dataclass(frozen=True)
class Observed:
    """The entry, and for a hard link whether it is the same inode as `src`."""

    entry: Entry | None
    linked: bool = False


def content(spec: Spec) -> tuple[str, ...]:
    return (spec.content,) if spec.content else ()


def observe(spec: Spec, host: Host) -> Observed:
    entry = read_entry(spec.path, content=bool(spec.content))
    _check(spec, entry)
    linked = False
    if spec.state == "hard" and entry is not None:
        linked = os.path.exists(spec.src) and os.path.samefile(spec.src, spec.path)
    return Observed(entry, linked)


def _check(spec: Spec, entry: Entry | None) -> None:
    """Refuse, in a plan as in apply, what would take something else away, or has nothing to act on."""
    if entry is None:
        if spec.state == "file":
            raise CannotObserve(
                f"cannot set attributes of {spec.path}: it does not exist",
                hint="use `state: touch` to make it, or `copy` to give it content",
            )
        return
    wanted = {"touch": "file", "hard": "file"}.get(spec.state, spec.state)
    if spec.state == "absent" or spec.content or entry.type == wanted:
        return
    # A link or a file is made under another name and renamed over what lies there.
    if entry.type == "directory" or spec.state not in ("link", "hard"):
        raise CannotObserve(
            f"cannot make {spec.path} a {_NAMES.get(spec.state, spec.state)}: a {entry.type} lies there",
            hint="remove it first, with `state: absent`",
        )


def diff(spec: Spec, observed: Observed) -> list[Change]:
    entry = observed.entry
    if spec.state == "absent":
        return [Change(Action.DELETE, before=entry.type, reason=Reason.UNWANTED)] if entry else []
    wanted = {"touch": "file", "hard": "file"}.get(spec.state, spec.state)
    if entry is None:
        after = f"link to {spec.src}" if spec.state == "link" else wanted
        made = Change(Action.CREATE, "type", after=after, reason=Reason.ABSENT)
        return [made, *attributes(None, spec.owner, spec.group, spec.mode)]
    if entry.type != wanted:
        return [Change(Action.REPLACE, field="type", before=entry.type, after=wanted)]
    changes = []
    if spec.state == "link" and entry.target != spec.src:
        changes.append(Change(Action.UPDATE, field="src", before=entry.target, after=spec.src))
    if spec.state == "hard" and not observed.linked:
        changes.append(Change(Action.UPDATE, field="src", after=spec.src))
    if spec.content and entry.digest != spec.content:
        changes.append(
            Change(Action.UPDATE, field="content", before=entry.digest, after=spec.content)
        )
    return changes + attributes(entry, spec.owner, spec.group, spec.mode)


def apply(spec: Spec, observed: Observed, changes: list[Change], host: Host) -> None:
    entry = observed.entry
    if spec.state == "absent":
        remove(spec.path)
        return
    if spec.state in ("link", "hard"):
        place_link(spec.path, spec.src, hard=spec.state == "hard")
    elif spec.content and any(change.field in ("content", "type", "") for change in changes):
        if entry is not None and entry.type != "file":
            remove(spec.path)
        place(spec.path, host.blob(spec.content), None, spec.owner, spec.group, spec.mode)
    elif entry is None:
        _make(spec)
    set_attributes(spec.path, spec.owner, spec.group, spec.mode)


def _make(spec: Spec) -> None:
    if spec.state == "directory":
        check_parents(spec.path)
        os.makedirs(spec.path, 0o755, exist_ok=True)
    else:
        place(spec.path, b"", None, spec.owner, spec.group, spec.mode)


def undo(spec: Spec, observed: Observed, host: Host) -> Spec | None:
    entry = observed.entry
    if entry is None:
        return replace(spec, state="absent", src="", owner="", group="", mode="")
    if entry.type == "link":
        return replace(spec, state="link", src=entry.target, owner="", group="", mode="")
    kept = ""
    if entry.type == "file" and spec.state in ("absent", "link", "hard", "directory"):
        with open(spec.path, "rb") as stream:
            kept = host.keep(stream.read())
    state: Literal["touch", "directory"] = "directory" if entry.type == "directory" else "touch"
    return Spec(spec.path, state, "", entry.owner, entry.group, entry.mode, kept)
