"""Runs on the managed host: one build from its request to its image; and a look at what it would do."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

from ..agent.channel import ControllerGone
from ..agent.files import private_folder, read_json, write_json
from ..agent.host import Host
from ..contract.build import Build
from ..contract.document import digest
from ..contract.reference import canonical_name
from ..contract.spec import encode
from ..runtime import cgroup
from ..store.staging import scratch, sweep
from ..store.store import Image, Store
from . import finish, keeping, recall
from .site import Files, NotBuilt, Report, Site
from .stages import Stages
from .workshop import Workshop

_GLANCE = 0.2


@dataclass(frozen=True)
class Look:
    """What a build would give.

    Attributes:
        image_id: hex; None while a step has to be done first.
        why: the first step that is not in the cache, and what is new in it.
    """

    image_id: str | None
    why: str = ""


def look(build: Build, host: Host, files: Files, name: str) -> Look:
    """Go through the steps without doing any."""
    site = Site(build, host, Store(host.paths.data), files, "", _silent, name)
    stages = Stages(site)
    try:
        state = stages.run()
    except NotBuilt:
        return Look(None, _why(stages, site))
    known = finish.known(state, site)
    if known is None or build.no_cache:
        return Look(None, "its metadata changed")
    return Look(known)


def perform(
    build: Build,
    host: Host,
    files: Files,
    names: list[str],
    origin: str,
    report: Report,
    workshop: Workshop | None = None,
) -> Image:
    """Build, and give the image its names.

    Args:
        workshop: one that was started; it is closed at the end.
    Raises:
        HostctlError: a step failed; what was made before it stays in the cache.
        ControllerGone: nobody waits for it any more; its programs were ended.
    """
    store = Store(host.paths.data)
    sweep(store)
    _sweep_cgroups(host)
    keeping.tidy(host.paths.data)
    with keeping.building(host.paths.data), scratch(store) as folder:
        site = Site(build, host, store, files, folder, report, names[0] if names else "")
        site.workshop = workshop or site.workshop
        stopped = threading.Event()
        watch = threading.Thread(target=_watch, args=(host, site, stopped), daemon=True)
        watch.start()
        try:
            stages = Stages(site)
            stages.ask_ahead()
            state = stages.run()
            _warn(stages, site)
            image = finish.finish(state, site, names, origin)
        except BaseException:
            site.workshop.close()
            if host.gone():
                raise ControllerGone from None
            site.commit()
            raise
        finally:
            stopped.set()
            watch.join()
            site.workshop.close()
            _sweep_cgroups(host)
        _remember(stages, site, image)
        recall.remember(site, origin, image, finish.image_key(state, site))
    return image


def _warn(stages: Stages, site: Site) -> None:
    """Tell what the lint finds; one that asks for errors was refused already."""
    for found in stages.findings():
        where = {"event": "warning", "line": found.lines.first}
        event = {**where, "rule": found.rule, "text": found.message}
        site.events.append(event)
        site.report(**event)


def origin_of(build: Build) -> str:
    """What the store records as the source of the image."""
    return recall.source_of(encode(build))


def _silent(**_: Any) -> None:
    pass


def _watch(host: Host, site: Site, stopped: threading.Event) -> None:
    """End the programs once the controller has hung up."""
    while not stopped.wait(_GLANCE):
        if host.gone():
            site.workshop.close()
            return


def _sweep_cgroups(host: Host) -> None:
    """Remove the cgroups of programs that were killed. One that is in use cannot be removed."""
    hierarchies = cgroup.detect()
    path = f"{cgroup.base(host.paths.run)}/builds"
    for top in {*hierarchies.v1.values(), hierarchies.v2} - {""}:
        folder = os.path.join(top, path)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue
        for name in [*names, ""]:
            try:
                os.rmdir(os.path.join(folder, name))
            except OSError:
                continue
    cgroup.prune(host.paths.run)


# What the last build of a name was like, so that a plan can say what is new.


def _last_path(data: str, name: str) -> str:
    return os.path.join(data, "build", "last", digest(canonical_name(name).encode())[:32])


def _remember(stages: Stages, site: Site, image: Image) -> None:
    if not site.name:
        return
    path = _last_path(site.data, site.name)
    private_folder(os.path.dirname(path))
    steps = [
        one.text for plan in stages.plans for one in (plan.stage.start, *plan.stage.instructions)
    ]
    write_json(
        path,
        {
            "steps": steps,
            "context": stages.site.build.context,
            "files": stages.listing().summary(),
            "args": site.build.args,
            "image": image.image_id,
            "source": origin_of(site.build),
            "bases": site.bases,
        },
        sync=False,
    )


def _why(stages: Stages, site: Site) -> str:
    """The step that has to be done, and what is new in it: its text, its files, or what is below it."""
    assert stages.current is not None
    _, one = stages.current
    what = f"{stages.where(one)}: {one.text if len(one.text) < 70 else one.text[:67] + '...'}"
    if site.build.no_cache:
        return f"{what} (no_cache)"
    before = read_json(_last_path(site.data, site.name)) if site.name else None
    if not before:
        return f"{what} (not built here yet)"
    if one.text not in before["steps"]:
        return f"{what} (the instruction is new)"
    if before["args"] != site.build.args:
        return f"{what} (build arguments changed)"
    if one.NAME in ("COPY", "ADD", "RUN"):
        now, then = stages.listing().summary(), before["files"]
        changed = sorted(p for p in now.keys() | then.keys() if now.get(p) != then.get(p))
        if changed and one.NAME != "RUN":
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            return f"{what} ({changed[0]}{more} changed)"
    same = before.get("source") == origin_of(site.build) and not site.asked_others
    if same and all(before["bases"].get(name) == found for name, found in site.bases.items()):
        return f"{what} (no longer in the cache)"
    return f"{what} (what it begins with changed)"
