"""Runs on the managed host: the kind `volume`: a named folder that outlives containers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any

from .agent.external import check_can_be_made
from .agent.files import private_folder, read_json, write_json
from .agent.host import Host, Paths
from .contract.change import Action, Change, Reason
from .contract.compose import DRIVER_OPTS, LABELS
from .contract.errors import CannotApply
from .contract.fields import check_name
from .contract.storage import check_driver_opts


@dataclass(frozen=True)
class Spec:
    """A volume. `name` is the full name (`shop_data`).

    `driver_opts` (`type`, `device`, `o`, as of mount(8)) say that it is no folder of hostctl's own: a folder
    of the host (`o: bind`), or a file system that each container mounts when it starts.
    """

    name: str
    driver: str = "local"
    driver_opts: Annotated[dict[str, str], DRIVER_OPTS] = field(default_factory=dict)
    external: bool = False
    labels: Annotated[dict[str, str], LABELS] = field(default_factory=dict)
    state: str = "present"

    def __post_init__(self) -> None:
        """Raise FieldError (the controller adds file and line): names become folders of the host."""
        check_name(self.name, "name")
        check_driver_opts(self.driver_opts)


@dataclass(frozen=True)
class Observed:
    """A volume as it is.

    Attributes:
        complete: False where its record or its folder is missing.
        wanted_opts: `driver_opts` as they will be after this run: containers are made with them.
    """

    labels: dict[str, str] = field(default_factory=dict)
    project: str = ""
    complete: bool = True
    driver_opts: dict[str, str] = field(default_factory=dict)
    wanted_opts: dict[str, str] = field(default_factory=dict)


def observe(spec: Spec, host: Host) -> Observed | None:
    """The volume's record and folder. Raises CannotObserve."""
    folder = host.paths.volume(spec.name)
    if not os.path.lexists(folder):
        if spec.state != "absent":
            check_can_be_made(
                "volume", spec.name, external=spec.external, driver=spec.driver, ours="local"
            )
        return None
    record = read_json(os.path.join(folder, "volume.json"))
    complete = record is not None and os.path.isdir(data_path(host.paths, spec.name))
    record = record or {}
    options = record.get("driver_opts", {})
    return Observed(
        record.get("labels", {}),
        record.get("project", ""),
        complete,
        options,
        options if spec.external else spec.driver_opts,
    )


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
    if observed.driver_opts != spec.driver_opts:
        before, after = observed.driver_opts, spec.driver_opts
        changes.append(Change(Action.UPDATE, "driver_opts", before, after))
    return changes


def apply(
    spec: Spec,
    observed: Observed | None,
    changes: list[Change],
    host: Host,
) -> dict[str, Any] | None:
    """Folder first, then the record; or away with both."""
    from .runtime import id_ranges

    folder, data = host.paths.volume(spec.name), data_path(host.paths, spec.name)
    try:
        if spec.state == "absent":
            remove(host.paths, spec.name)
            id_ranges.tidy(host.paths)
            return None
        private_folder(folder)
        if not os.path.isdir(data):
            os.mkdir(data, 0o755)
            # Not less than 0755 whatever the umask: a container's own user must get in.
            os.chmod(data, 0o755)
        project = observed.project if observed is not None and observed.project else host.project
        record = {
            "name": spec.name,
            "labels": dict(spec.labels),
            "project": project,
            "driver_opts": dict(spec.driver_opts),
        }
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
    from .agent import trees

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
        trees.remove(trash)
        os.rename(folder, trash)
    trees.remove(trash)


def _mounts_under(folder: str) -> list[str]:
    """Mount points at or below the folder in this process's mount namespace."""
    from .runtime import mountinfo

    points = [mount.path for mount in mountinfo.read()]
    return [point for point in points if point == folder or point.startswith(folder + "/")]
