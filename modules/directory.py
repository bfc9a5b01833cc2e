"""Runs on the managed host: the kind `directory`: a directory with owner, group and mode.

Missing parents are made too (root's, 0755), and removed again by destroy where they were made here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from .agent.entries import Entry, attributes, check_parents, read_entry, remove, set_attributes
from .agent.host import Host
from .contract.change import Action, Change, Reason
from .contract.errors import CannotApply
from .contract.filesystem import MODE, PATH


@dataclass(frozen=True)
class Spec:
    """A directory. Empty owner, group or mode: as it is, or root's 0755 when it is made.

    `state: absent` removes it with all it holds; `keep_content` removes it only if it is empty.
    """

    path: Annotated[str, PATH]
    owner: str = ""
    group: str = ""
    mode: Annotated[str, MODE] = ""
    state: Literal["present", "absent"] = "present"
    keep_content: bool = False


def observe(spec: Spec, host: Host) -> Entry | None:
    return read_entry(spec.path)


def diff(spec: Spec, observed: Entry | None) -> list[Change]:
    if spec.state == "absent":
        if observed is None:
            return []
        return [Change(Action.DELETE, before=observed.type, reason=Reason.UNWANTED)]
    if observed is None:
        made = Change(Action.CREATE, "type", after="directory", reason=Reason.ABSENT)
        return [made, *attributes(None, spec.owner, spec.group, spec.mode)]
    if observed.type != "directory":
        return [Change(Action.REPLACE, field="type", before=observed.type, after="directory")]
    return attributes(observed, spec.owner, spec.group, spec.mode)


def apply(spec: Spec, observed: Entry | None, changes: list[Change], host: Host) -> None:
    if spec.state == "absent":
        _remove(spec)
        return
    check_parents(spec.path)
    if observed is None:
        try:
            os.makedirs(os.path.dirname(spec.path), 0o755, exist_ok=True)
            os.mkdir(spec.path, 0o755)
        except OSError as error:
            raise CannotApply(
                f"cannot make {spec.path}: {error.strerror}",
                hint="set `become: true`, or look at what lies at its parent",
            ) from error
    elif observed.type != "directory":
        raise CannotApply(
            f"cannot make {spec.path} a directory: a {observed.type} lies there",
            hint=f"remove it first: `file: {{path: {spec.path}, state: absent}}`",
        )
    set_attributes(spec.path, spec.owner, spec.group, spec.mode)


def _remove(spec: Spec) -> None:
    if not spec.keep_content:
        remove(spec.path)
        return
    try:
        os.rmdir(spec.path)
    except OSError as error:
        raise CannotApply(
            f"cannot remove {spec.path}: {error.strerror}",
            hint="other files were put there since; remove them, or leave the directory",
        ) from error


def undo(spec: Spec, observed: Entry | None, host: Host) -> Spec | None:
    if observed is None:
        top = spec.path
        while not os.path.lexists(os.path.dirname(top)):
            top = os.path.dirname(top)
        return replace(spec, path=top, state="absent", owner="", group="", mode="")
    return replace(spec, owner=observed.owner, group=observed.group, mode=observed.mode)
