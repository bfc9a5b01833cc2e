"""Runs on the managed host, in the agent: what a container needs of its host, looked at before it is made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..contract.change import Action
from ..contract.errors import CannotApply, CannotObserve, Impossible
from . import bundle_security
from .assemble import incarnations, recorded

if TYPE_CHECKING:
    from ..agent.host import Host
    from ..container import Spec


_INSTALLERS = ("command", "copy", "file", "package")


def check_ports(spec: Spec) -> None:
    """A port that another program of the host has is said before anything is made.

    What other containers publish is left to apply: this very run may take it from them.
    """
    if spec.state == "absent" or not spec.ports:
        return
    from ..net.ports import check_listeners

    for port in spec.ports:
        if port.published:
            check_listeners(port.published, port.protocol, port.host_ip)


def check_devices(spec: Spec) -> None:
    """A device that the host does not have is said before anything is made."""
    if spec.state == "absent" or not (spec.devices or spec.blkio_config):
        return
    from .bundle_resources import resources

    try:
        resources(spec)
    except CannotApply as error:
        raise Impossible(error.message, hint=error.hint, ref=error.ref) from error


def check_runtime(spec: Spec, host: Host) -> None:
    """A runtime that the host does not have is said before anything is made, unless this run may install it.

    So is the init that another runtime's containers get.
    """
    if spec.state == "absent" or not spec.runtime:
        return
    from .desk import find, find_init

    lacking = "" if find(spec.runtime) else spec.runtime
    what = f"cannot run {spec.name} with {spec.runtime}: it is not installed"
    if not lacking and spec.init and not find_init():
        lacking = "catatonit"
        what = f"cannot give {spec.name} an init: the host has none for {spec.runtime}"
    if lacking:
        pending = any(
            changes and name.partition(".")[0] in _INSTALLERS
            for name, changes in host.changes.items()
        )
        raise (CannotObserve if pending else Impossible)(
            what,
            hint=f"install it first (package: {{name: {lacking}}}), or leave `runtime` out",
            ref="no-runtime",
        )


def check_users(spec: Spec, host: Host) -> None:
    """A container whose namespaces it would share must have the same users; the controller may not know it."""
    if spec.state == "absent":
        return
    for kind, name in bundle_security.peers(spec).items():
        record = recorded(host.paths, name)
        if record is None or f"container.{name}" in host.changes:
            continue  # one of this run's, which the controller knows
        theirs, project = record["spec"].get("userns_mode", ""), record["project"]
        if theirs != spec.userns_mode or (theirs and project != host.project):
            raise Impossible(
                f"cannot share {kind} with {name}: it has other users than {spec.name}",
                hint="both must have the same `userns_mode`, and be in one project if that is private",
                ref="other-users",
            )


def check_logging(spec: Spec) -> None:
    """A journal that the host does not have is said before anything is made: it comes with the host's init."""
    if spec.state == "absent" or spec.logging is None or spec.logging.driver != "journald":
        return
    from ..monitor.journal import SOCKET

    if not os.path.exists(SOCKET):
        raise Impossible(
            f"cannot log {spec.name} to the journal: the host has no journald ({SOCKET} is missing)",
            hint="leave `logging` out, or write `driver: json-file`; journald comes with systemd",
            ref="no-journald",
        )


def renewed_peers(spec: Spec, found: dict[str, Any], host: Host) -> tuple[str, ...]:
    """Kinds of namespaces that it has from a container that was, or in this run will be, made anew.

    Args:
        found: its spec.json.
    """
    peers = bundle_security.peers(spec)
    if not peers or spec.state == "absent":
        return ()
    now = incarnations(peers, host.paths)
    return tuple(
        kind
        for kind, name in peers.items()
        if found.get("peers", {}).get(kind, 0) != now[kind] or _pending(name, host)
    )


def _pending(name: str, host: Host) -> bool:
    """A plan leaves it as it is; an apply has made what others need before it looks at those."""
    made = (Action.CREATE, Action.REPLACE)
    changes = host.changes.get(f"container.{name}", ())
    return not host.writable and any(change.action in made for change in changes)
