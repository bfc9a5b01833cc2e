"""Runs on the managed host: the kind `copy`: a file with given content.

The controller reads `src` or `content`; the document carries only the digest, and the bytes travel where
the host does not have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from .agent.entries import (
    Entry,
    as_text,
    attributes,
    place,
    place_link,
    read_entry,
    remove,
    text_diff,
)
from .agent.entries import set_attributes as _set_attributes
from .agent.host import Host
from .contract.change import Action, Change, Reason
from .contract.filesystem import MODE, PATH


@dataclass(frozen=True)
class Spec:
    """A file's content. Exactly one of `src` (a file beside the playbook) and `content`.

    `digest` is set by the controller. `validate` is a command that must accept the new file (`%s`) before
    it takes its place. `force: false` leaves an existing file alone. `link` is set by hostctl itself, to put
    back a link that a file took the place of.
    """

    dest: Annotated[str, PATH]
    src: str = ""
    content: str = ""
    owner: str = ""
    group: str = ""
    mode: Annotated[str, MODE] = ""
    force: bool = True
    validate: str = ""
    digest: str = ""
    link: str = ""
    state: Literal["present", "absent"] = "present"


@dataclass(frozen=True)
class Observed:
    """The entry at `dest`, and the wanted content as text where it is at hand and short."""

    entry: Entry | None
    wanted: str | None = None


def content(spec: Spec) -> tuple[str, ...]:
    return (spec.digest,) if spec.digest else ()


def observe(spec: Spec, host: Host) -> Observed:
    entry = read_entry(spec.dest, content=True)
    wanted = None
    if spec.digest and (entry is None or entry.digest != spec.digest):
        data = host.blob(spec.digest)
        wanted = as_text(data) if data else None
    return Observed(entry, wanted)


def diff(spec: Spec, observed: Observed) -> list[Change]:
    entry = observed.entry
    if spec.state == "absent":
        return [Change(Action.DELETE, before=entry.type, reason=Reason.UNWANTED)] if entry else []
    if spec.link:
        before = entry.target if entry else None
        return [] if before == spec.link else [Change(Action.REPLACE, "link", before, spec.link)]
    if entry is None:
        text = text_diff("", observed.wanted, spec.dest)
        made = Change(Action.CREATE, "content", after=spec.digest, reason=Reason.ABSENT, diff=text)
        return [made, *attributes(None, spec.owner, spec.group, spec.mode)]
    changes = []
    if entry.type != "file":
        changes.append(Change(Action.REPLACE, "type", entry.type, "file"))
    elif entry.digest != spec.digest and spec.force:
        text = text_diff(entry.text, observed.wanted, spec.dest)
        changes.append(Change(Action.UPDATE, "content", entry.digest, spec.digest, diff=text))
    return changes + attributes(entry, spec.owner, spec.group, spec.mode)


def apply(spec: Spec, observed: Observed, changes: list[Change], host: Host) -> None:
    if spec.state == "absent":
        remove(spec.dest)
        return
    if spec.link:
        place_link(spec.dest, spec.link)
        return
    if any(change.field in ("content", "type") for change in changes):
        data = host.blob(spec.digest)
        if spec.validate:
            _validate(spec, data)
        place(spec.dest, data, observed.entry, spec.owner, spec.group, spec.mode)
    else:
        _set_attributes(spec.dest, spec.owner, spec.group, spec.mode)


def _validate(spec: Spec, data: bytes) -> None:
    """Run the check on a private copy of the new content; nothing is changed if it refuses."""
    import os
    import shlex
    import tempfile

    from .agent.run import run
    from .contract.errors import CannotApply

    with tempfile.NamedTemporaryFile(prefix="hostctl-validate-") as stream:
        stream.write(data)
        stream.flush()
        argv = [
            os.fspath(stream.name) if part == "%s" else part for part in shlex.split(spec.validate)
        ]
        done = run(argv, timeout=60)
    if done.code != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise CannotApply(
            f"cannot use the new {spec.dest}: `{spec.validate}` refused it: {' / '.join(lines)}",
            hint="the file on the host is unchanged; correct the content",
        )


def undo(spec: Spec, observed: Observed, host: Host) -> Spec | None:
    entry = observed.entry
    if entry is None:
        return Spec(spec.dest, state="absent")
    if entry.type == "link":
        return Spec(spec.dest, link=entry.target)
    if entry.type != "file":
        return None
    with open(spec.dest, "rb") as stream:
        kept = host.keep(stream.read())
    return Spec(spec.dest, owner=entry.owner, group=entry.group, mode=entry.mode, digest=kept)
