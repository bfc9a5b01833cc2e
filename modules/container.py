"""Runs on the managed host: the kind `container`: one container of one service.

The spec uses Compose's key names. What the controller sends is lowered: full names, replicas expanded,
short forms parsed, `deploy` folded into the plain limits.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from .agent.host import Host
from .contract.change import UNKNOWN, Action, Change, Reason
from .contract.compose import (
    CAPABILITIES,
    COMMAND,
    CPUS,
    DEPENDS_ON,
    ENVIRONMENT,
    EXTRA_HOSTS,
    LABELS,
    NETWORK_MODE,
    NETWORKS,
    PORTS,
    RESTART,
    SIGNAL,
    TMPFS,
    ULIMITS,
    VOLUMES,
)
from .contract.errors import CannotApply
from .contract.fields import DURATION, SIZE, FieldError, check_name
from .contract.spec import encode

_HOSTNAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")


@dataclass(frozen=True)
class Port:
    """One published port. `host_ip` empty is every address; `published` 0 is a free port of the host.

    `published_end` is the end of a range that the controller takes one port from; never sent.
    """

    target: int
    published: int = 0
    host_ip: str = ""
    protocol: str = "tcp"
    published_end: int = 0


@dataclass(frozen=True)
class Mount:
    """One mount. `type` is volume, bind or tmpfs; an anonymous volume has no source."""

    target: str
    type: str = "volume"
    source: str = ""
    read_only: bool = False
    tmpfs_size: int = 0
    tmpfs_mode: int = 0o1777


@dataclass(frozen=True)
class Attachment:
    """The container on one network: further names there, and an address of its own if wanted."""

    network: str
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""


@dataclass(frozen=True)
class Ulimit:
    """One resource limit; -1 is unlimited."""

    soft: int
    hard: int


@dataclass(frozen=True)
class Spec:
    """What a container should be. None means "as the image says"; an empty tuple clears it.

    `name`, `service` and `number` are set by the controller for entries of `containers:`.
    """

    name: str
    image: str
    service: str = ""
    number: int = 1
    command: Annotated[tuple[str, ...] | None, COMMAND] = None
    entrypoint: Annotated[tuple[str, ...] | None, COMMAND] = None
    environment: Annotated[dict[str, str], ENVIRONMENT] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    ports: Annotated[tuple[Port, ...], PORTS] = ()
    volumes: Annotated[tuple[Mount, ...], VOLUMES] = ()
    networks: Annotated[tuple[Attachment, ...], NETWORKS] = ()
    network_mode: Annotated[str, NETWORK_MODE] = ""
    hostname: str = ""
    restart: Annotated[str, RESTART] = "no"
    init: bool = False
    read_only: bool = False
    cap_add: Annotated[tuple[str, ...], CAPABILITIES] = ()
    cap_drop: Annotated[tuple[str, ...], CAPABILITIES] = ()
    privileged: bool = False
    mem_limit: Annotated[int, SIZE] = 0
    cpus: Annotated[float, CPUS] = 0.0
    pids_limit: int = 0
    ulimits: Annotated[dict[str, Ulimit], ULIMITS] = field(default_factory=dict)
    labels: Annotated[dict[str, str], LABELS] = field(default_factory=dict)
    stop_signal: Annotated[str, SIGNAL] = ""
    stop_grace_period: Annotated[float, DURATION] = 10.0
    extra_hosts: Annotated[tuple[str, ...], EXTRA_HOSTS] = ()
    tmpfs: Annotated[tuple[str, ...], TMPFS] = ()
    depends_on: Annotated[dict[str, Any], DEPENDS_ON] = field(default_factory=dict)
    deploy: dict[str, Any] = field(default_factory=dict)
    state: str = "started"

    def __post_init__(self) -> None:
        """Raise FieldError (the controller adds file and line): names become folders of the host."""
        check_name(self.name, "name")
        if self.hostname and not _HOSTNAME.fullmatch(self.hostname):
            raise FieldError(
                f"{self.hostname!r} is no name of a host; letters, digits, dots and dashes, at most 63",
                "hostname",
            )
        self._check_limits()
        for index, mount in enumerate(self.volumes):
            if mount.type == "volume" and mount.source:
                check_name(mount.source, "volumes", index)
        for index, attachment in enumerate(self.networks):
            check_name(attachment.network, "networks", index)

    def _check_limits(self) -> None:
        """Less than this, and the kernel refuses it or ends the first process before its program runs."""
        if self.mem_limit and self.mem_limit < 6 << 20:
            raise FieldError("a container needs at least 6m of memory", "mem_limit")
        if self.cpus and self.cpus < 0.01:
            raise FieldError("a container needs at least 0.01 of a CPU", "cpus")
        if self.pids_limit < -1:
            raise FieldError("write a number of processes, or -1 for no limit", "pids_limit")


IN_PLACE = frozenset(
    ("restart", "stop_signal", "stop_grace_period", "mem_limit", "cpus", "pids_limit", "labels")
)
_LIMITS = frozenset(("mem_limit", "cpus", "pids_limit"))
NOT_COMPARED = frozenset(("name", "depends_on", "deploy", "state", "image"))
HALF_MADE = "half made"
MAPS = frozenset(("environment", "labels", "ulimits"))


@dataclass(frozen=True)
class Observed:
    """A container as it is.

    Attributes:
        spec: the spec that it was made from, encoded.
        image_id: config digest of the image that it was made from.
        target_id: config digest that its image reference stands for now; None: known after apply.
        status: created, running, restarting, exited, or half made (a run was killed while making it).
        watched: its monitor lives.
        ending: how it ended, for people: `exit code 1`, `killed by signal 9`, `out of memory`.
        finished: it ended with exit code 0 and no restart policy wants it back.
    """

    spec: dict[str, Any]
    image_id: str
    target_id: str | None
    status: str
    watched: bool
    ending: str = ""
    finished: bool = False


def observe(spec: Spec, host: Host) -> Observed | None:
    from .monitor import client
    from .runtime.assemble import recorded

    found = recorded(host.paths, spec.name)
    if found is None:
        _check_ports(spec, host)
        half_made = os.path.isdir(host.paths.container(spec.name))
        return Observed({}, "", None, HALF_MADE, False) if half_made else None
    state = client.status(host.paths, spec.name)
    return Observed(
        spec=found["spec"],
        image_id=found["image"],
        target_id=_target(spec, host),
        status=state.status,
        watched=state.watched,
        ending=state.ending,
        finished=state.status == "exited" and state.exit_code == 0 and not _returns(spec.restart),
    )


def _check_ports(spec: Spec, host: Host) -> None:
    """A port that another program of the host has is said before anything is made.

    What other containers publish is left to apply: this very run may take it from them.
    """
    if spec.state == "absent" or not spec.ports:
        return
    from .net.ports import check_listeners

    for port in spec.ports:
        if port.published:
            check_listeners(port.published, port.protocol, port.host_ip)


def _returns(policy: str) -> bool:
    return policy.partition(":")[0] in ("always", "unless-stopped")


def _target(spec: Spec, host: Host) -> str | None:
    """What the reference stands for: what the image resource of this run says, else what the store has."""
    image = host.observations.get(f"image.{spec.image}")
    if image is not None:
        target: str | None = image.target_id
        return target
    from .store.store import Store

    return Store(host.paths.data).resolve(spec.image)


def diff(spec: Spec, observed: Observed | None) -> list[Change]:
    if spec.state == "absent":
        if observed is None:
            return []
        return [Change(Action.DELETE, before=observed.status, reason=Reason.UNWANTED)]
    wanted = _comparable(encode(spec))
    if observed is None or observed.status == HALF_MADE:
        shown = [Change(Action.CREATE, "image", after=spec.image, reason=Reason.ABSENT)]
        return shown + [
            Change(Action.CREATE, name, after=value, reason=Reason.ABSENT)
            for name, value in sorted(wanted.items())
        ]
    changes = _field_changes(_comparable(observed.spec), wanted)
    changes += _image_changes(spec, observed)
    if not any(change.action is Action.REPLACE for change in changes):
        changes += _state_changes(spec, observed)
    return changes


def _comparable(encoded: dict[str, Any]) -> dict[str, Any]:
    """Field -> value, with maps spread out (`environment.TZ`), so that a change names its key."""
    out: dict[str, Any] = {}
    for name, value in encoded.items():
        if name in NOT_COMPARED:
            continue
        if name in MAPS:
            out.update({f"{name}.{key}": item for key, item in value.items()})
        else:
            out[name] = value
    return out


def _field_changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    changes = []
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            in_place = name.partition(".")[0] in IN_PLACE
            reason = Reason.DIFFERS if name in after else Reason.REMOVED
            action = Action.UPDATE if in_place else Action.REPLACE
            changes.append(Change(action, name, before.get(name), after.get(name), reason))
    return changes


def _image_changes(spec: Spec, observed: Observed) -> list[Change]:
    if observed.target_id == observed.image_id:
        return []
    before = f"{observed.spec.get('image', '')} ({observed.image_id[:12]})"
    if observed.target_id is None:
        return [Change(Action.REPLACE, "image", before, UNKNOWN, Reason.IMAGE, certain=False)]
    after = f"{spec.image} ({observed.target_id[:12]})"
    return [Change(Action.REPLACE, "image", before, after, Reason.IMAGE)]


def _state_changes(spec: Spec, observed: Observed) -> list[Change]:
    alive = observed.status in ("running", "restarting")
    if spec.state == "stopped":
        stop = Change(Action.UPDATE, "state", observed.status, "stopped", Reason.UNWANTED)
        return [stop] if alive else []
    if not alive and not observed.finished:
        before = f"{observed.status} ({observed.ending})" if observed.ending else observed.status
        return [Change(Action.UPDATE, "state", before, "running", Reason.NOT_RUNNING)]
    if observed.status == "restarting":
        return [
            Change(
                Action.UPDATE,
                "state",
                f"restarting ({observed.ending})",
                "running",
                Reason.NOT_RUNNING,
            )
        ]
    if alive and not observed.watched:
        return [Change(Action.UPDATE, "monitor", "lost", "watching", Reason.NOT_RUNNING)]
    return []


def apply(
    spec: Spec, observed: Observed | None, changes: list[Change], host: Host
) -> dict[str, Any] | None:
    from .monitor import client
    from .runtime import lifecycle

    if spec.state == "absent":
        lifecycle.remove(spec.name, host.paths)
        return None
    if any(change.action in (Action.CREATE, Action.REPLACE) for change in changes):
        _make(spec, host)
        return {"container": spec.name}
    fields = {change.field for change in changes}
    if observed is not None and fields - {"state", "monitor"}:
        # Without a running program there is no cgroup: its limits come with the next start.
        kept = fields if observed.status == "running" else fields - _LIMITS
        lifecycle.update(spec, observed.image_id, kept, host)
    if "monitor" in fields:
        client.adopt(host.paths, spec.name)
    elif "state" in fields and spec.state == "stopped":
        client.stop(host.paths, spec.name)
    elif "state" in fields:
        lifecycle.start(spec, host)
    return {"container": spec.name}


def _make(spec: Spec, host: Host) -> None:
    """Make and start it; where there was one, the old one is stopped and taken apart first."""
    from .net import firewall
    from .runtime import lifecycle
    from .store.store import Store

    store = Store(host.paths.data)
    image_id = store.resolve(spec.image)
    if image_id is None:
        raise CannotApply(
            f"cannot start {spec.name}: image {spec.image} is not in the host's store",
            hint="declare it under `images:`, or name one that a registry has",
        )
    image, layers = store.config(image_id), store.lower(image_id)
    with firewall.changing(host.paths):
        lifecycle.renew(spec, host, image_id, image, layers)
        if spec.state != "stopped":
            lifecycle.start(spec, host)


def undo(spec: Spec, observed: Observed | None, host: Host) -> Spec | None:
    if observed is None or observed.status == HALF_MADE:
        return replace(spec, state="absent")
    return None
