"""Runs on the managed host: a network's record on disk: its subnet, its bridge, and who has which address."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

from ..agent.files import private_folder, read_json, write_json
from ..agent.host import DATA_DIR, Paths
from ..contract.errors import HostctlError
from . import netlink

if TYPE_CHECKING:
    from ipaddress import IPv4Network

POOL = "172.29.0.0/16"
"""Where subnets without a wish come from, in slices of 256 addresses. Docker's start at 172.17."""
SLICE = 24

_lock = threading.Lock()


def record_path(paths: Paths, name: str) -> str:
    """`DATA/networks/NAME/network.json`."""
    return os.path.join(paths.network(name), "network.json")


def load(paths: Paths, name: str) -> dict[str, Any] | None:
    """The network's record, None where there is no such network."""
    record: dict[str, Any] | None = read_json(record_path(paths, name))
    return record


def load_all(paths: Paths) -> list[dict[str, Any]]:
    """All records of this host, by name."""
    try:
        names = sorted(os.listdir(os.path.join(paths.data, "networks")))
    except FileNotFoundError:
        return []
    return [record for name in names if (record := load(paths, name)) is not None]


def short_name(paths: Paths, prefix: str, name: str) -> str:
    """An interface's name of at most 15 characters, the same each time; unique per data folder."""
    import hashlib

    where = "" if paths.data == DATA_DIR else f"{paths.data}\0"
    return f"{prefix}{hashlib.sha256((where + name).encode()).hexdigest()[:8]}"


def bridge_name(paths: Paths, network: str) -> str:
    """The bridge of a network: `hc-1a2b3c4d`."""
    return short_name(paths, "hc-", network)


def veth_name(paths: Paths, container: str, number: int) -> str:
    """The host's end of a container's interface `number`: `v1a2b3c4d` and, after the first, `-1`..."""
    return short_name(paths, "v", container) + (f"-{number}" if number else "")


def mac_of(address: str) -> str:
    """A locally administered MAC made of the address, so that neighbours' caches stay right on reuse."""
    return "02:42:" + socket.inet_aton(address.partition("/")[0]).hex(":")


def create(
    paths: Paths,
    name: str,
    *,
    subnet: str = "",
    gateway: str = "",
    ip_range: str = "",
    internal: bool = False,
    labels: dict[str, str] | None = None,
    project: str = "",
) -> dict[str, Any]:
    """Write the record of a network, choosing its subnet if none is wanted.

    Addresses of an older record stay where they fit. Raises HostctlError where the subnet clashes.
    """
    with _lock:
        old = load(paths, name) or {}
        if subnet:
            check_subnet(paths, name, subnet, gateway, ip_range)
            block = _block(subnet)
        elif old.get("subnet"):
            block = _block(old["subnet"])
        else:
            block = _free_block(paths, name)
        taken = {
            container: address
            for container, address in old.get("addresses", {}).items()
            if _inside(address, block)
        }
        record = {
            "name": name,
            "subnet": str(block),
            "gateway": gateway or str(block[1]),
            "ip_range": ip_range,
            "bridge": bridge_name(paths, name),
            "mac": mac_of(gateway or str(block[1])),
            "internal": internal,
            "labels": dict(labels or {}),
            "project": project,
            "addresses": taken,
        }
        private_folder(paths.network(name))
        write_json(record_path(paths, name), record)
        return record


def delete(paths: Paths, name: str) -> None:
    """Remove the record, and what a killed write left beside it; a missing one is fine."""
    from shutil import rmtree

    with _lock:
        # The record first: from then on the network is gone for everyone.
        try:
            os.unlink(record_path(paths, name))
        except FileNotFoundError:
            pass
        rmtree(paths.network(name), ignore_errors=True)


def allocate(paths: Paths, network: str, container: str, wanted: str = "") -> str:
    """The container's address in the network (`172.29.0.2`), the same each time it is asked for.

    Raises:
        HostctlError: no such network, `wanted` is outside or another's, or nothing is left.
    """
    from ipaddress import IPv4Address

    with _lock:
        record = _need(paths, network)
        taken: dict[str, str] = record["addresses"]
        now = taken.get(container, "")
        if now and wanted in ("", now):
            return now
        block = _block(record["subnet"])
        others = {address: who for who, address in taken.items() if who != container}
        if wanted:
            _check_wanted(record, block, wanted, others)
            address = wanted
        else:
            pool = _block(record["ip_range"]) if record.get("ip_range") else block
            # Numbers: an address object for each that is taken would cost the most of a large network.
            gone = {int(block[0]), int(block[-1]), int(IPv4Address(record["gateway"]))}
            gone.update(_number(address) for address in others)
            first, last = int(pool[0]), int(pool[-1])
            found = next((number for number in range(first, last + 1) if number not in gone), None)
            if found is None:
                raise HostctlError(
                    f"cannot give {container} an address in network {network}: "
                    f"all of {pool} are taken",
                    hint="declare a larger subnet for the network, or remove containers",
                    ref="addresses-exhausted",
                )
            address = str(IPv4Address(found))
        taken[container] = address
        # The container's own record, synced after this one, takes it to the disk with it.
        write_json(record_path(paths, network), record, sync=False)
        return address


def release(paths: Paths, network: str, container: str) -> None:
    """Give the container's address back; nothing to give back is fine."""
    with _lock:
        record = load(paths, network)
        if record is not None and record["addresses"].pop(container, None) is not None:
            write_json(record_path(paths, network), record)


def check_subnet(
    paths: Paths, name: str, subnet: str, gateway: str = "", ip_range: str = ""
) -> None:
    """Raises HostctlError where what is wanted is no subnet or overlaps what the host already reaches."""
    block = _checked(name, subnet, gateway, ip_range)
    clash = next((why for other, why in _in_use(paths, name) if other.overlaps(block)), "")
    if clash:
        raise HostctlError(
            f"cannot create network {name}: subnet {subnet} overlaps {clash}",
            hint="choose another subnet, or leave it out and hostctl picks a free one",
            ref="subnet-clash",
        )


def _checked(name: str, subnet: str, gateway: str, ip_range: str) -> IPv4Network:
    """The subnet, where it has room and holds its gateway and range."""
    try:
        block = _block(subnet)
        if block.prefixlen > 30:
            raise ValueError("it has no room for a gateway and a container")
        if gateway and not _inside(gateway, block):
            raise ValueError(f"gateway {gateway} is not inside it")
        if ip_range and not _block(ip_range).subnet_of(block):
            raise ValueError(f"ip_range {ip_range} is not inside it")
    except ValueError as error:
        raise HostctlError(
            f"cannot use subnet {subnet} for network {name}: {error}",
            hint="write the first address and a length, such as 172.30.5.0/24",
            ref="subnet-invalid",
        ) from error
    return block


def _number(address: str) -> int:
    return int.from_bytes(bytes(map(int, address.split("."))), "big")


def _block(subnet: str) -> IPv4Network:
    from ipaddress import IPv4Network

    return IPv4Network(subnet)


def _inside(address: str, block: IPv4Network) -> bool:
    from ipaddress import IPv4Address

    return IPv4Address(address) in block


def _free_block(paths: Paths, name: str) -> IPv4Network:
    used = [other for other, _ in _in_use(paths, name)]
    for block in _block(POOL).subnets(new_prefix=SLICE):
        if not any(block.overlaps(other) for other in used):
            return block
    raise HostctlError(
        f"cannot create network {name}: no free subnet in {POOL}",
        hint="give the network a subnet of its own",
        ref="subnets-exhausted",
    )


def _in_use(paths: Paths, name: str) -> list[tuple[IPv4Network, str]]:
    """What is taken: other networks' subnets, and what the host reaches without its default route."""
    from ipaddress import IPv4Network

    mine = bridge_name(paths, name)
    found = [
        (_block(record["subnet"]), f"the subnet of network {record['name']}")
        for record in load_all(paths)
        if record["name"] != name
    ]
    with netlink.Netlink() as kernel:
        names = {link.index: link.name for link in kernel.links()}
        for route in kernel.routes():
            block = IPv4Network(route.destination, strict=False)
            interface = names.get(route.index, "no interface")
            # 0.0.0.0/0 and its halves (VPNs) lead everywhere and take nothing.
            if block.prefixlen > 1 and interface != mine:
                found.append((block, f"the host's route {block} on {interface}"))
        for one in kernel.addresses():
            interface = names.get(one.index, "no interface")
            if interface != mine:
                block = IPv4Network(one.address, strict=False)
                found.append((block, f"the host's address {one.address} on {interface}"))
    return found


def _need(paths: Paths, network: str) -> dict[str, Any]:
    record = load(paths, network)
    if record is None:
        raise HostctlError(
            f"cannot use network {network}: it does not exist on this host",
            hint="declare it under networks:, or create it first if it is external",
            ref="network-missing",
        )
    return record


def _check_wanted(
    record: dict[str, Any], block: IPv4Network, wanted: str, others: dict[str, str]
) -> None:
    try:
        fits = _inside(wanted, block) and wanted not in (str(block[0]), str(block[-1]))
    except ValueError:
        fits = False
    owner = "the gateway" if wanted == record["gateway"] else others.get(wanted, "")
    if not fits or owner:
        why = f"it belongs to {owner}" if owner else f"it is not inside {block}"
        raise HostctlError(
            f"cannot use address {wanted} in network {record['name']}: {why}",
            hint="choose another ipv4_address, or leave it out",
            ref="address-unusable",
        )
