"""Runs on the managed host: the kind `volume`: a named folder that outlives containers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any

from .agent.files import private_folder, read_json, write_json
from .agent.host import Host, Paths
from .contract.change import Action, Change, Reason
from .contract.compose import LABELS
from .contract.errors import CannotApply, CannotObserve
from .contract.fields import check_name


@dataclass(frozen=True)
class Spec:
    """A volume. `name` is the full name (`shop_data`)."""

    name: str
    driver: str = "local"
    external: bool = False
    labels: Annotated[dict[str, str], LABELS] = field(default_factory=dict)
    state: str = "present"

    def __post_init__(self) -> None:
        """Raise FieldError (the controller adds file and line): names become folders of the host."""
        check_name(self.name, "name")


@dataclass(frozen=True)
class Observed:
    """A volume as it is. `complete` is False where its record or its folder is missing."""

    labels: dict[str, str] = field(default_factory=dict)
    project: str = ""
    complete: bool = True


def observe(spec: Spec, host: Host) -> Observed | None:
    """The volume's record and folder. Raises CannotObserve."""
    folder = host.paths.volume(spec.name)
    if not os.path.lexists(folder):
        _check_absent(spec)
        return None
    record = read_json(os.path.join(folder, "volume.json"))
    complete = record is not None and os.path.isdir(data_path(host.paths, spec.name))
    record = record or {}
    return Observed(record.get("labels", {}), record.get("project", ""), complete)


def diff(spec: Spec, observed: Observed | None) -> list[Change]:
    """What has to change; an external volume changes in nothing."""
    if spec.external:
        return []
    if spec.state == "absent":
        return [Change(Action.DELETE, reason=Reason.UNWANTED)] if observed is not None else []
    if observed is None:
        return [Change(Action.CREATE, reason=Reason.ABSENT)]
    changes = []
    if not observed.complete:
        changes.append(Change(Action.UPDATE, "folder", "incomplete", "complete"))
    if observed.labels != spec.labels:
        changes.append(Change(Action.UPDATE, "labels", observed.labels, spec.labels))
    return changes


def apply(
    spec: Spec,
    observed: Observed | None,
    changes: list[Change],
    host: Host,
) -> dict[str, Any] | None:
    """Folder first, then the record; or away with both."""
    folder, data = host.paths.volume(spec.name), data_path(host.paths, spec.name)
    try:
        if spec.state == "absent":
            remove(host.paths, spec.name)
            return None
        private_folder(folder)
        if not os.path.isdir(data):
            os.mkdir(data, 0o755)
            # Not less than 0755 whatever the umask: a container's own user must get in.
            os.chmod(data, 0o755)
        project = observed.project if observed is not None and observed.project else host.project
        record = {"name": spec.name, "labels": dict(spec.labels), "project": project}
        write_json(os.path.join(folder, "volume.json"), record)
    except OSError as error:
        what = "remove" if spec.state == "absent" else "create"
        raise CannotApply(
            f"cannot {what} volume {spec.name}: {error}", ref="volume-failed"
        ) from error
    return {"name": spec.name, "path": data}


def undo(spec: Spec, observed: Observed | None, host: Host) -> Spec | None:
    """Absent if it was absent; external ones and those that were there are left alone."""
    if spec.external or observed is not None:
        return None
    return Spec(name=spec.name, state="absent")


def data_path(paths: Paths, name: str) -> str:
    """Where the volume's content lies: `DATA/volumes/NAME/_data`."""
    return os.path.join(paths.volume(name), "_data")


def remove(paths: Paths, name: str) -> None:
    """Remove the volume and all its data; what a killed removal left in the trash goes too.

    Raises:
        CannotApply: something is mounted inside it (it would be emptied along with it).
        OSError: the file system refuses.
    """
    folder = paths.volume(name)
    trash = os.path.join(os.path.dirname(folder), f".trash-{name}")
    if os.path.lexists(folder):
        mounted = _mounts_under(os.path.realpath(folder))
        if mounted:
            raise CannotApply(
                f"cannot remove volume {name}: {mounted[0]} is mounted inside it",
                hint=f"stop what uses it, then umount {mounted[0]}",
                ref="volume-in-use",
            )
        _delete(trash)
        os.rename(folder, trash)
    _delete(trash)


def _check_absent(spec: Spec) -> None:
    if spec.state == "absent":
        return
    if spec.external:
        raise CannotObserve(
            f"cannot use volume {spec.name}: it is external and does not exist on this host",
            hint="create it in the project that owns it, or take `external` away",
            ref="external-missing",
        )
    if spec.driver != "local":
        raise CannotObserve(
            f"cannot create volume {spec.name}: driver {spec.driver} is not supported yet",
            hint="use `driver: local`, or leave it out",
            ref="not-supported",
        )


def _mounts_under(folder: str) -> list[str]:
    """Mount points at or below the folder in this process's mount namespace."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            point = line.split()[4].replace("\\040", " ").replace("\\011", "\t")
            if point == folder or point.startswith(folder + "/"):
                found.append(point)
    return found


def _delete(folder: str) -> None:
    """Remove a tree without following a link out of it (shutil's own protection)."""
    from shutil import rmtree

    if os.path.lexists(folder):
        rmtree(folder)
