"""Runs on the managed host, in the agent: puts a container's folder together, and takes it apart.

Everything that a monitor needs to start the container, now or after a reboot, lies in
`DATA/containers/NAME/`. `spec.json` is written last: a folder without it is half made and is made anew.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

from ..agent.files import read_json, sync_together, to_json, write_atomic, write_json
from ..agent.host import Host, Paths
from ..container import Spec
from ..contract.compose.isolation import SECCOMP_CONTENT
from ..contract.errors import CannotApply, HostctlError
from ..contract.spec import encode
from . import bundle_security, grants, owners, sources
from .bundle import host_name, make_config
from .seccomp import build, install
from .settings import settings

SCHEMA = 1
KEPT = sources.KEPT
_KEPT_MARKS = ("made", "peers", "mounts", "files", "inherited")


def recorded(paths: Paths, name: str) -> dict[str, Any] | None:
    """What the container was made from: `spec`, `image`, `project`, `schema`; None where none was made.

    One whose record is damaged is as one that was not made to its end: it is removed and made again.
    """
    try:
        found = read_json(os.path.join(paths.container(name), "spec.json"))
    except HostctlError:
        return None
    return found if isinstance(found, dict) else None


def assemble(
    spec: Spec, host: Host, image_id: str, image: dict[str, Any], layers: list[str]
) -> None:
    """Write the folder: network record, files of /etc, bundle, monitor's settings, and last the spec.

    Args:
        image_id: config digest (hex) of the image.
        image: its configuration.
        layers: short names of its unpacked layers, top first, in `DATA/store/l`.
    """
    folder = host.paths.container(spec.name)
    for part in ("bundle/rootfs", "upper", "work", "log", KEPT):
        os.makedirs(os.path.join(folder, part), 0o700, exist_ok=True)
    os.chmod(os.path.join(folder, "upper"), 0o755)
    network = _network(spec, host)
    files = {**_etc_files(spec, network), "network.json": (to_json(network), 0o600)}
    mounted = sources.gather(spec, host, image)
    owned = owners.prepare(spec, host, mounted, layers)
    config = make_config(
        replace(_with_profile(spec, host), volumes=tuple(mounted.mounts)),
        image,
        folder=folder,
        layers=layers,
        links_dir=os.path.join(host.paths.data, "store", "l"),
        volumes=mounted.paths,
        owners=owned,
    )
    config["annotations"].update(mounted.annotations(owned.options if owned else {}))
    config["annotations"].update(grants.annotation(spec, host.paths))
    if spec.cgroup_parent:
        files["cgroup"] = (config["linux"]["cgroupsPath"].encode(), 0o600)
    files["bundle/config.json"] = (to_json(config), 0o600)
    if config["linux"].get("seccomp"):
        program = build.file_content(config["linux"]["seccomp"], os.uname().machine)
        files[f"bundle/{install.FILE}"] = (program, 0o600)
    files["monitor.json"] = (to_json(settings(spec, image)), 0o600)
    for name, (data, mode) in files.items():
        write_atomic(os.path.join(folder, name), data, mode, sync=False, sweep=False)
    if owned is not None:
        owned.give(folder)
    sync_together(os.path.join(folder, name) for name in files)
    special = {name: options for name, options in grants.volumes(spec, host).items() if options}
    files_of = {**grants.marks(spec, host), **special}
    made_of: dict[str, Any] = {"mounts": mounted.to_json(), "files": files_of}
    made_of["made"] = time.time_ns()
    peers = bundle_security.peers(spec)
    if peers:
        made_of["peers"] = incarnations(peers, host.paths)
    if spec.volumes_from:
        made_of["inherited"] = sources.inherited(spec, host.paths)
    record(spec, host, image_id, made_of)


def record(spec: Spec, host: Host, image_id: str, made_of: dict[str, Any] | None = None) -> None:
    """Write `spec.json`: from now on the container counts as made.

    Args:
        made_of: `made` (when), `peers` (see `incarnations`), `mounts` and `inherited` (see `sources`),
            `files` (marks of secrets, configs and volumes, see `grants`); None: as they were.
    """
    if made_of is None:
        before = recorded(host.paths, spec.name) or {}
        made_of = {key: before[key] for key in _KEPT_MARKS if key in before}
    value = {
        "schema": SCHEMA,
        "project": host.project,
        "image": image_id,
        "spec": encode(spec),
        **made_of,
    }
    write_json(os.path.join(host.paths.container(spec.name), "spec.json"), value)


def incarnations(peers: dict[str, str], paths: Paths) -> dict[str, int]:
    """Kind of namespace -> which making of the container it comes from; 0 where that is not there."""
    return {kind: int((recorded(paths, name) or {}).get("made", 0)) for kind, name in peers.items()}


def write_settings(spec: Spec, paths: Paths) -> None:
    """Write `monitor.json` of a container that exists anew; what its image says stays."""
    path = os.path.join(paths.container(spec.name), "monitor.json")
    before = read_json(path) or {}
    write_json(path, settings(spec, before.get("image") or {}))


def _with_profile(spec: Spec, host: Host) -> Spec:
    """The spec with the text of its seccomp profile in the place of the digest that travelled."""
    found = tuple(
        f"seccomp={host.blob(item[len(SECCOMP_CONTENT) :]).decode('utf-8', 'replace')}"
        if item.startswith(SECCOMP_CONTENT)
        else item
        for item in spec.security_opt
    )
    return replace(spec, security_opt=found) if found != spec.security_opt else spec


def _network(spec: Spec, host: Host) -> dict[str, Any]:
    """The container's network record: mode, endpoints, published ports; shape in net/endpoint.py."""
    mode = spec.network_mode or ("bridge" if spec.networks else "none")
    network: dict[str, Any] = {
        "mode": mode,
        "hostname": host_name(spec),
        "endpoints": [],
        "ports": [],
        "dns": mode == "bridge",
    }
    if mode != "bridge":
        return network
    from ..net import addresses

    names = sorted({spec.name, spec.service} - {""})
    for index, attachment in enumerate(spec.networks):
        record = read_json(os.path.join(host.paths.network(attachment.network), "network.json"))
        if record is None:
            raise CannotApply(
                f"cannot attach {spec.name} to network {attachment.network}: there is no such network",
                hint=f"declare it under `networks:`, or make it with `network: {{name: {attachment.network}}}`",
            )
        address = addresses.allocate(
            host.paths, attachment.network, spec.name, attachment.ipv4_address
        )
        network["endpoints"].append(
            {
                "network": attachment.network,
                "bridge": record["bridge"],
                "interface": f"eth{index}",
                "veth": addresses.veth_name(host.paths, spec.name, index),
                "mac": addresses.mac_of(address),
                "address": f"{address}/{record['subnet'].partition('/')[2]}",
                "gateway": "" if record.get("internal") else record["gateway"],
                "names": sorted({*names, *attachment.aliases}),
            }
        )
    network["ports"] = _ports(spec, host, network["endpoints"])
    return network


def _ports(spec: Spec, host: Host, endpoints: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Published ports, with free host ports chosen for those that left it open."""
    if not spec.ports:
        return []
    from ..net import ports

    outward = next((e for e in endpoints if e["gateway"]), None)
    if outward is None:
        raise CannotApply(
            f"cannot publish ports of {spec.name}: all its networks are internal",
            hint="attach it to a network without `internal: true`",
        )
    before = read_json(os.path.join(host.paths.container(spec.name), "network.json")) or {}
    chosen = ports.choose(host.paths, spec.name, spec.ports, before.get("ports", []))
    address = outward["address"].partition("/")[0]
    return [{**item, "address": address} for item in chosen]


def _etc_files(spec: Spec, network: dict[str, Any]) -> dict[str, tuple[bytes, int]]:
    """Name -> (content, mode) of what is bound over /etc; hosts has the own and the `extra_hosts` names."""
    hostname = network["hostname"]
    names = f"{hostname}.{spec.domainname}\t{hostname}" if spec.domainname else hostname
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    gateway = ""
    for endpoint in network["endpoints"]:
        lines.append(f"{endpoint['address'].partition('/')[0]}\t{names}")
        gateway = gateway or endpoint["gateway"]
    if not network["endpoints"]:
        lines.append(f"127.0.1.1\t{names}")
    for item in spec.extra_hosts:
        name, _, address = item.replace("=", ":", 1).partition(":")
        lines.append(f"{gateway if address == 'host-gateway' else address.strip('[]')}\t{name}")
    resolver = b"nameserver 127.0.0.11\noptions ndots:0\n"
    if not network["dns"]:
        try:
            with open("/etc/resolv.conf", "rb") as stream:
                resolver = stream.read(65536)
        except OSError:
            resolver = b""
    return {
        "hosts": (("\n".join(lines) + "\n").encode(), 0o644),
        "hostname": (f"{hostname}\n".encode(), 0o644),
        "resolv.conf": (resolver, 0o644),
    }


def take_apart(paths: Paths, name: str, *, keep_anonymous: bool = False) -> None:
    """Remove the folder of a container that no longer runs; twice is fine.

    Anonymous volumes survive a replacement (as in Compose), and go with the container otherwise.
    """
    from ..agent import trees

    folder = paths.container(name)
    if not os.path.isdir(folder):
        return
    spec = os.path.join(folder, "spec.json")
    if os.path.exists(spec):
        os.unlink(spec)
    for part in os.listdir(folder):
        path = os.path.join(folder, part)
        if keep_anonymous and part in (KEPT, "network.json"):
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            trees.remove(path)
        else:
            os.unlink(path)
    if not keep_anonymous:
        os.rmdir(folder)
