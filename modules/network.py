"""Runs on the managed host: the kind `network`: a bridge with a subnet, isolated from the others."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any

from .agent.external import check_can_be_made
from .agent.host import Host, Paths
from .contract.change import UNKNOWN, Action, Change, Reason
from .contract.compose import LABELS
from .contract.errors import CannotApply, CannotObserve, HostctlError
from .contract.fields import check_name


@dataclass(frozen=True)
class Spec:
    """A network. `name` is the full name (`shop_front`); an empty subnet is chosen on the host."""

    name: str
    driver: str = "bridge"
    internal: bool = False
    external: bool = False
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    labels: Annotated[dict[str, str], LABELS] = field(default_factory=dict)
    state: str = "present"

    def __post_init__(self) -> None:
        """Raise FieldError (the controller adds file and line): names become folders of the host."""
        check_name(self.name, "name")


@dataclass(frozen=True)
class Observed:
    """A network as it is. `present` is False where only a prerequisite is to be reported.

    Attributes:
        link: its bridge is there, up, and has the gateway's address.
        firewall: hostctl's nftables table says what the records ask for.
        forwarding: the host forwards IPv4.
        nft: the program `nft` is installed.
        containers: who has an address in it.
    """

    present: bool = True
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    internal: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    bridge: str = ""
    link: bool = True
    firewall: bool = True
    forwarding: bool = True
    nft: bool = True
    containers: tuple[str, ...] = ()
    project: str = ""


def observe(spec: Spec, host: Host) -> Observed | None:
    """The network's record against what the kernel has. Raises CannotObserve."""
    from .net import addresses, firewall, links

    record = addresses.load(host.paths, spec.name)
    nft = bool(firewall.nft_path())
    if record is None:
        _check_absent(spec, host.paths)
        return None if nft or spec.state == "absent" else Observed(present=False, nft=False)
    containers = _containers(host.paths, record)
    if spec.subnet not in ("", record["subnet"]) and spec.state != "absent" and not spec.external:
        _check_move(spec, record["subnet"], containers, host.paths)
    listing = None if host.writable else host.snapshot.get("nft", "")
    bridge, length = record["bridge"], record["subnet"].partition("/")[2]
    return Observed(
        subnet=record["subnet"],
        gateway=record["gateway"],
        ip_range=record.get("ip_range", ""),
        internal=record.get("internal", False),
        labels=record.get("labels", {}),
        bridge=bridge,
        link=links.is_up(bridge) and links.address(bridge) == f"{record['gateway']}/{length}",
        firewall=nft and firewall.is_intact(host.paths, listing),
        forwarding=firewall.forwards(),
        nft=nft,
        containers=containers,
        project=record.get("project", ""),
    )


def diff(spec: Spec, observed: Observed | None) -> list[Change]:
    """What has to change; an external network changes in nothing."""
    present = observed is not None and observed.present
    if spec.external:
        return []
    if spec.state == "absent":
        return [Change(Action.DELETE, reason=Reason.UNWANTED)] if present else []
    changes = []
    if observed is not None and not observed.nft:
        changes.append(Change(Action.CREATE, "package nftables", None, "installed", Reason.ABSENT))
    if observed is None or not observed.present:
        changes.append(Change(Action.CREATE, reason=Reason.ABSENT))
        changes.append(Change(Action.CREATE, "subnet", None, spec.subnet or UNKNOWN, Reason.ABSENT))
        if spec.internal:
            changes.append(Change(Action.CREATE, "internal", None, True, Reason.ABSENT))
        return changes
    pairs = [
        ("internal", observed.internal, spec.internal),
        ("labels", observed.labels, spec.labels),
    ]
    if spec.gateway or spec.subnet:
        pairs.append(("gateway", observed.gateway, spec.gateway or _first(spec.subnet)))
    pairs.append(("ip_range", observed.ip_range, spec.ip_range))
    if spec.subnet and spec.subnet != observed.subnet:
        changes.append(Change(Action.REPLACE, "subnet", observed.subnet, spec.subnet))
    changes.extend(Change(Action.UPDATE, name, old, new) for name, old, new in pairs if old != new)
    states = (("link", observed.link), ("firewall", observed.firewall))
    changes.extend(
        Change(Action.UPDATE, name, "missing or changed", "as declared")
        for name, intact in states
        if not intact
    )
    if not observed.forwarding:
        changes.append(Change(Action.UPDATE, "ip_forward", "0", "1"))
    return changes


def apply(
    spec: Spec, observed: Observed | None, changes: list[Change], host: Host
) -> dict[str, Any] | None:
    """Record, bridge, forwarding, firewall, in this order: what stops in between is found and finished later."""
    from .net import firewall

    if spec.state == "absent":
        _remove(spec.name, host.paths)
        return None
    if not firewall.nft_path():
        _install_nft(host)
    with firewall.changing(host.paths):
        return _make(spec, observed, changes, host)


def _make(
    spec: Spec, observed: Observed | None, changes: list[Change], host: Host
) -> dict[str, Any]:
    from .net import addresses, firewall, links

    fields = {change.field for change in changes}
    now = observed if observed is not None and observed.present else None
    if now is None or fields & {"subnet", "gateway", "ip_range", "internal", "labels"}:
        record = addresses.create(
            host.paths,
            spec.name,
            subnet=spec.subnet,
            gateway=spec.gateway,
            ip_range=spec.ip_range,
            internal=spec.internal,
            labels=spec.labels,
            project=now.project if now is not None else host.project,
        )
    else:
        record = addresses.load(host.paths, spec.name) or {}
    try:
        links.ensure_bridge(record)
        firewall.ensure_forwarding(host.paths)
    except OSError as error:
        raise CannotApply(
            f"cannot set up network {spec.name}: {error}", ref="network-failed"
        ) from error
    firewall.sync(host.paths)
    return {"name": spec.name, "subnet": record["subnet"], "bridge": record["bridge"]}


def undo(spec: Spec, observed: Observed | None, host: Host) -> Spec | None:
    """Absent if it was absent, as it was if it was there; external ones are left alone."""
    if spec.external:
        return None
    if observed is None or not observed.present:
        return Spec(name=spec.name, state="absent")
    return Spec(
        name=spec.name,
        internal=observed.internal,
        subnet=observed.subnet,
        gateway=observed.gateway,
        ip_range=observed.ip_range,
        labels=dict(observed.labels),
    )


def warnings(spec: Spec, host: Host) -> list[str]:
    """What another's firewall keeps from this network; one without a way out needs nothing of it."""
    from .net import addresses, foreign

    if spec.internal or spec.state == "absent":
        return []
    if "ruleset" not in host.snapshot:  # a plan has read it already
        host.snapshot.update(foreign.read())
    return foreign.warnings(spec.name, addresses.bridge_name(host.paths, spec.name), host.snapshot)


def restore(paths: Paths) -> None:
    """At boot: every network of this host again, from the records. Names of containers start empty."""
    from .net import addresses, firewall, links

    failed = []
    records = addresses.load_all(paths)
    for record in records:
        try:
            links.ensure_bridge(record)
        except OSError as error:
            failed.append(f"{record['name']}: {error}")
    if records:
        firewall.ensure_forwarding(paths)
        firewall.sync(paths)
    if failed:
        raise CannotApply(f"cannot set up network {'; '.join(failed)}", ref="network-failed")


def is_missing(paths: Paths) -> bool:
    """Whether `restore` has something to do."""
    from .net import addresses, firewall, links

    records = addresses.load_all(paths)
    if any(not links.is_up(record["bridge"]) for record in records):
        return True
    return bool(records) and not firewall.forwards()


def _check_absent(spec: Spec, paths: Paths) -> None:
    if spec.state == "absent":
        return
    check_can_be_made(
        "network", spec.name, external=spec.external, driver=spec.driver, ours="bridge"
    )
    if spec.subnet:
        _check_subnet(spec, paths)
    elif spec.gateway or spec.ip_range:
        raise CannotObserve(
            f"cannot create network {spec.name}: its gateway and ip_range need a subnet",
            hint="add the subnet that they lie in",
            ref="subnet-missing",
        )


def _check_subnet(spec: Spec, paths: Paths) -> None:
    from .net import addresses

    try:
        addresses.check_subnet(paths, spec.name, spec.subnet, spec.gateway, spec.ip_range)
    except HostctlError as error:
        raise CannotObserve(error.message, hint=error.hint, ref=error.ref) from error


def _containers(paths: Paths, record: dict[str, Any]) -> tuple[str, ...]:
    """Containers with an address that still exist; one that was killed while it left does not count."""
    found = record.get("addresses", {})
    return tuple(sorted(name for name in found if os.path.isdir(paths.container(name))))


def _first(subnet: str) -> str:
    """The address after the subnet's own, which a gateway has unless said otherwise."""
    from ipaddress import IPv4Network

    try:
        return str(IPv4Network(subnet)[1])
    except (ValueError, IndexError):
        return ""


def _check_move(spec: Spec, subnet: str, containers: tuple[str, ...], paths: Paths) -> None:
    """A network gets another subnet only while nobody has an address in it."""
    if containers:
        raise CannotObserve(
            f"cannot change the subnet of network {spec.name} from {subnet} to {spec.subnet}: "
            f"{', '.join(containers)} have addresses in it",
            hint="remove these containers first, or give the network a new name",
            ref="network-in-use",
        )
    _check_subnet(spec, paths)


def _remove(name: str, paths: Paths) -> None:
    """The reverse of apply, and the host's own settings with the last network."""
    from .net import addresses, firewall, links

    record = addresses.load(paths, name)
    if record is None:
        return
    attached = _containers(paths, record)
    if attached:
        raise CannotApply(
            f"cannot remove network {name}: {', '.join(attached)} are attached to it",
            hint="remove these containers first",
            ref="network-in-use",
        )
    try:
        links.remove_bridge(record["bridge"])
    except OSError as error:
        raise CannotApply(f"cannot remove network {name}: {error}", ref="network-failed") from error
    addresses.delete(paths, name)
    firewall.sync(paths)
    _remove_names(paths, name)
    if not addresses.load_all(paths):
        firewall.restore_forwarding(paths)


def _remove_names(paths: Paths, name: str) -> None:
    from shutil import rmtree

    rmtree(os.path.join(paths.run, "networks", name), ignore_errors=True)


def _install_nft(host: Host) -> None:
    """Networks need `nft`: from the distribution's own packages where they can be had."""
    from .agent.run import run
    from .net import firewall

    host.progress("installing package nftables")
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "-y", "--no-install-recommends"]
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    why = "this host has no apt-get"
    if os.path.exists("/usr/bin/apt-get"):
        done = run([*command, "install", "nftables"], env=env, timeout=900)
        if done.code != 0:
            run(["apt-get", "-q", "update"], env=env, timeout=600)
            done = run([*command, "install", "nftables"], env=env, timeout=900)
        why = (done.stderr.strip() or f"exit code {done.code}").splitlines()[-1]
    if not firewall.nft_path():
        raise CannotApply(
            f"cannot install package nftables, which networks need: {why}",
            hint="install nftables on the host (it provides /usr/sbin/nft), then apply again",
            ref="nft-missing",
        )
