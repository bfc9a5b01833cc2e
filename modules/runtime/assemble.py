"""Runs on the managed host, in the agent: puts a container's folder together, and takes it apart.

Everything that a monitor needs to start the container, now or after a reboot, lies in
`DATA/containers/NAME/`. `spec.json` is written last: a folder without it is half made and is made anew.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from ..agent.files import read_json, sync_together, to_json, write_atomic, write_json
from ..agent.host import Host, Paths
from ..container import Mount, Spec
from ..contract.errors import CannotApply
from ..contract.spec import encode
from .bundle import host_name, make_config, signal_number

SCHEMA = 1
KEPT = "anonymous"


def recorded(paths: Paths, name: str) -> dict[str, Any] | None:
    """What the container was made from: `spec`, `image`, `project`, `schema`; None where none was made."""
    found = read_json(os.path.join(paths.container(name), "spec.json"))
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
    config = make_config(
        spec,
        image,
        folder=folder,
        layers=layers,
        links_dir=os.path.join(host.paths.data, "store", "l"),
        volumes={m.target: _source(m, spec, host) for m in spec.volumes if m.type != "tmpfs"},
    )
    files["bundle/config.json"] = (to_json(config), 0o600)
    files["monitor.json"] = (to_json(_settings(spec, _stop_signal(image))), 0o600)
    for name, (data, mode) in files.items():
        write_atomic(os.path.join(folder, name), data, mode, sync=False, sweep=False)
    sync_together(os.path.join(folder, name) for name in files)
    record(spec, host, image_id)


def record(spec: Spec, host: Host, image_id: str) -> None:
    """Write `spec.json`: from now on the container counts as made."""
    value = {
        "schema": SCHEMA,
        "project": host.project,
        "image": image_id,
        "spec": encode(spec),
    }
    write_json(os.path.join(host.paths.container(spec.name), "spec.json"), value)


def write_settings(spec: Spec, paths: Paths) -> None:
    """Write `monitor.json` of a container that exists anew; the image's stop signal stays."""
    path = os.path.join(paths.container(spec.name), "monitor.json")
    before = read_json(path) or {}
    write_json(path, _settings(spec, before.get("image_stop_signal") or "SIGTERM"))


def _stop_signal(image: dict[str, Any]) -> str:
    return (image.get("config") or {}).get("StopSignal") or "SIGTERM"


def _settings(spec: Spec, image_stop_signal: str) -> dict[str, Any]:
    """The monitor's settings: restart policy, how to stop, how to log."""
    return {
        "restart": spec.restart,
        "stop_signal": signal_number(spec.stop_signal or image_stop_signal),
        "image_stop_signal": image_stop_signal,
        "stop_grace_period": spec.stop_grace_period,
        "log": {"max_size": 10 << 20, "max_file": 3},
    }


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
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    gateway = ""
    for endpoint in network["endpoints"]:
        lines.append(f"{endpoint['address'].partition('/')[0]}\t{hostname}")
        gateway = gateway or endpoint["gateway"]
    if not network["endpoints"]:
        lines.append(f"127.0.1.1\t{hostname}")
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


def _source(mount: Mount, spec: Spec, host: Host) -> str:
    """The directory or file on the host that is mounted; a missing bind source is made, as Compose does."""
    if mount.type == "bind":
        if not os.path.lexists(mount.source):
            os.makedirs(mount.source, 0o755, exist_ok=True)
        return mount.source
    if mount.source:
        path = os.path.join(host.paths.volume(mount.source), "_data")
        if not os.path.isdir(path):
            raise CannotApply(
                f"cannot mount volume {mount.source} into {spec.name}: there is no such volume",
                hint="declare it under `volumes:`",
            )
        return path
    key = hashlib.sha256(mount.target.encode()).hexdigest()[:16]
    path = os.path.join(host.paths.container(spec.name), KEPT, key)
    try:
        os.mkdir(path)
    except FileExistsError:
        return path
    # As Docker makes it, whatever the umask of this process: a program need not run as root.
    os.chmod(path, 0o755)
    return path


def take_apart(paths: Paths, name: str, *, keep_anonymous: bool = False) -> None:
    """Remove the folder of a container that no longer runs; twice is fine.

    Anonymous volumes survive a replacement (as in Compose), and go with the container otherwise.
    """
    import shutil

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
            shutil.rmtree(path)
        else:
            os.unlink(path)
    if not keep_anonymous:
        os.rmdir(folder)
