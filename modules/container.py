"""Runs on the managed host: the kind `container`: one container of one service.

The spec uses Compose's key names. What the controller sends is lowered: full names, replicas expanded,
short forms parsed, `deploy` folded into the plain limits. Longer than most files, because Compose has that
many keys, and a kind is one file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from .agent.host import Host
from .contract.change import UNKNOWN, Action, Change, Reason
from .contract.checks import check
from .contract.compose import (
    ANNOTATIONS,
    CAPABILITIES,
    COMMAND,
    CONFIGS,
    CPUS,
    CPUSET,
    DEPENDS_ON,
    DEVICE_RULES,
    DEVICES,
    ENVIRONMENT,
    EXTRA_HOSTS,
    HEALTHCHECK,
    HOST_ONLY,
    IPC,
    LABELS,
    LOGGING,
    MICROSECONDS,
    NETWORK_MODE,
    NETWORKS,
    PID,
    PLATFORM,
    PORTS,
    RESTART,
    RESTART_ON,
    RUNTIME,
    SECRETS,
    SECURITY_OPT,
    SIGNAL,
    SWAP,
    SYSCTLS,
    TMPFS,
    ULIMITS,
    USERNS,
    VOLUMES,
    VOLUMES_FROM,
    WORDS,
)
from .contract.compose.isolation import SECCOMP_CONTENT
from .contract.fields import DURATION, SIZE
from .contract.service import BlkioConfig, Dependency, Device, Healthcheck, Hook, Logging
from .contract.spec import encode
from .contract.storage import FileGrant, Mount

if TYPE_CHECKING:
    from .monitor.state import State


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
    depends_on: Annotated[dict[str, Dependency], DEPENDS_ON] = field(default_factory=dict)
    deploy: dict[str, Any] = field(default_factory=dict)
    annotations: Annotated[dict[str, str], ANNOTATIONS] = field(default_factory=dict)
    blkio_config: BlkioConfig | None = None
    cgroup: Annotated[str, HOST_ONLY] = ""
    cgroup_parent: str = ""
    cpu_period: Annotated[int, MICROSECONDS] = 0
    cpu_quota: Annotated[int, MICROSECONDS] = 0
    cpu_shares: int = 0
    cpuset: Annotated[str, CPUSET] = ""
    device_cgroup_rules: Annotated[tuple[str, ...], DEVICE_RULES] = ()
    devices: Annotated[tuple[Device, ...], DEVICES] = ()
    domainname: str = ""
    group_add: Annotated[tuple[str, ...], WORDS] = ()
    healthcheck: Annotated[Healthcheck | None, HEALTHCHECK] = None
    ipc: Annotated[str, IPC] = ""
    logging: Annotated[Logging | None, LOGGING] = None
    mem_reservation: Annotated[int, SIZE] = 0
    mem_swappiness: int | None = None
    memswap_limit: Annotated[int, SWAP] = 0
    oom_kill_disable: bool = False
    oom_score_adj: int = 0
    pid: Annotated[str, PID] = ""
    platform: Annotated[str, PLATFORM] = ""
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    restart_on: Annotated[str, RESTART_ON] = ""
    runtime: Annotated[str, RUNTIME] = ""
    security_opt: Annotated[tuple[str, ...], SECURITY_OPT] = ()
    shm_size: Annotated[int, SIZE] = 0
    stdin_open: bool = False
    sysctls: Annotated[dict[str, str], SYSCTLS] = field(default_factory=dict)
    tty: bool = False
    userns_mode: Annotated[str, USERNS] = ""
    uts: Annotated[str, HOST_ONLY] = ""
    volumes_from: Annotated[tuple[str, ...], VOLUMES_FROM] = ()
    secrets: Annotated[tuple[FileGrant, ...], SECRETS] = ()
    configs: Annotated[tuple[FileGrant, ...], CONFIGS] = ()
    state: str = "started"

    def __post_init__(self) -> None:
        """Raise FieldError (the controller adds file and line) for what no host could make."""
        check(self)


HALF_MADE = "half made"


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
        unsettled: it ended while it had no monitor: what it had in the kernel is still there.
        files: marks of secrets, configs and volumes that it was made with, and those that they will have.
        peers: namespaces that it shares with a container that was, or will be, made anew.
        inherited: what it has from `volumes_from`, and what it would get now; None: known after apply.
    """

    spec: dict[str, Any]
    image_id: str
    target_id: str | None
    status: str
    watched: bool
    ending: str = ""
    finished: bool = False
    unsettled: bool = False
    files: tuple[dict[str, str], dict[str, str]] = ({}, {})
    inherited: tuple[list[Any], list[Any] | None] = ([], [])
    peers: tuple[str, ...] = ()


def observe(spec: Spec, host: Host) -> Observed | None:
    from .monitor import client
    from .runtime import needs
    from .runtime.assemble import recorded
    from .store.filesystem import check_data_folder

    needs.check_runtime(spec, host)
    needs.check_logging(spec)
    needs.check_users(spec, host)
    found = recorded(host.paths, spec.name)
    if found is None:
        if spec.state != "absent":
            check_data_folder(host.paths)
        needs.check_ports(spec)
        needs.check_devices(spec)
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
        finished=_finished(state, spec.restart),
        unsettled=state.status == "exited" and state.monitor != 0,
        peers=needs.renewed_peers(spec, found, host),
        **_given(spec, found, host),
    )


def _finished(state: State, policy: str) -> bool:
    """One that was stopped has not come to its end."""
    done = state.status == "exited" and state.exit_code == 0 and not state.stopped
    return done and not _returns(policy)


def content(spec: Spec) -> tuple[str, ...]:
    """Digests of the files that travel with it: seccomp profiles."""
    start = len(SECCOMP_CONTENT)
    return tuple(item[start:] for item in spec.security_opt if item.startswith(SECCOMP_CONTENT))


def _given(spec: Spec, found: dict[str, Any], host: Host) -> dict[str, Any]:
    named = any(mount.type == "volume" and mount.source for mount in spec.volumes)
    if not (named or spec.secrets or spec.configs or spec.volumes_from) or spec.state == "absent":
        return {}
    from .runtime import grants

    return grants.observe(spec, found, host)


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
    from .runtime.fields import comparable, field_changes

    wanted = comparable(encode(spec))
    if observed is None or observed.status == HALF_MADE:
        shown = [Change(Action.CREATE, "image", after=spec.image, reason=Reason.ABSENT)]
        return shown + [
            Change(Action.CREATE, name, after=value, reason=Reason.ABSENT)
            for name, value in sorted(wanted.items())
        ]
    changes = field_changes(comparable(observed.spec), wanted)
    changes += _image_changes(spec, observed)
    if observed.files[1] or spec.volumes_from:
        from .runtime import grants

        changes += grants.diff(spec, observed)
    changes += [
        Change(Action.REPLACE, key, reason=Reason.DEPENDENCY)
        for key in observed.peers
        if not any(change.field == key for change in changes)
    ]
    if not any(change.action is Action.REPLACE for change in changes):
        changes += _state_changes(spec, observed)
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
    before = f"{observed.status} ({observed.ending})" if observed.ending else observed.status
    if spec.state == "stopped":
        shown = before if observed.unsettled else observed.status
        stop = Change(Action.UPDATE, "state", shown, "stopped", Reason.UNWANTED)
        return [stop] if alive or observed.unsettled else []
    if not alive and not observed.finished:
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
    if alive and not observed.watched and spec.tty:
        lost = "running (its terminal is lost)"
        return [Change(Action.UPDATE, "state", lost, "running", Reason.NOT_RUNNING)]
    if alive and not observed.watched:
        return [Change(Action.UPDATE, "monitor", "lost", "watching", Reason.NOT_RUNNING)]
    return []


def prepare(specs: list[Spec], host: Host) -> None:
    """The monitors' parent starts meanwhile: it takes as long as five containers do."""
    if not any(spec.state == "started" for spec in specs):
        return
    from .agent import unit
    from .monitor import starter

    # With systemd it lives in the service's cgroup: the kind `boot` prepares it once that is there.
    if unit.init() != unit.SYSTEMD or not host.changes.get("boot.hostctl"):
        starter.prepare(host.paths)


def apply(
    spec: Spec, observed: Observed | None, changes: list[Change], host: Host
) -> dict[str, Any] | None:
    from .monitor import client
    from .runtime import lifecycle
    from .runtime.bundle_resources import LIMITS

    if spec.state == "absent":
        lifecycle.remove(spec.name, host.paths)
        return None
    if any(change.action in (Action.CREATE, Action.REPLACE) for change in changes):
        lifecycle.make(spec, host)
        return {"container": spec.name}
    fields = {change.field.partition(".")[0] for change in changes}
    if observed is not None and fields - {"state", "monitor"}:
        # Without a running program there is no cgroup: its limits come with the next start.
        kept = fields if observed.status == "running" else fields - LIMITS
        lifecycle.update(spec, observed.image_id, kept, host)
    if "monitor" in fields:
        client.adopt(host.paths, spec.name)
    elif "state" in fields and spec.state == "stopped":
        lifecycle.stop(spec.name, host.paths)
    elif "state" in fields:
        lifecycle.start(spec, host)
    return {"container": spec.name}


def warnings(spec: Spec, host: Host) -> list[str]:
    """Who else has got the ids of its users meanwhile."""
    if not spec.userns_mode or spec.state == "absent":
        return []
    from .runtime import id_ranges

    return id_ranges.warnings(host.paths, host.project)


def undo(spec: Spec, observed: Observed | None, host: Host) -> Spec | None:
    if observed is None or observed.status == HALF_MADE:
        return replace(spec, state="absent")
    return None
