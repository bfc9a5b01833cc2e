"""Runs on the managed host: hostctl's own nftables table, derived from the records and replaced as a whole.

Nothing is ever added to it or taken from it one by one: `render` writes the whole table from what is on
disk, `nft -f -` swaps it in one transaction, and so nothing in it can outlive its container. No other table
is read or changed. Container addresses are reached from outside only through published ports.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..agent.files import private_folder, read_json, write_json
from ..agent.host import DATA_DIR, Paths
from ..agent.run import run
from ..contract.errors import HostctlError
from . import addresses, conntrack

NFT_FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")


@dataclass(frozen=True)
class Published:
    """One published port of one container; an empty `host_ip` is every address of the host."""

    container: str
    host_ip: str
    host_port: int
    protocol: str
    address: str
    target: int


def table_name(paths: Paths) -> str:
    """`hostctl`, or with another data folder a name of its own, so that two never overwrite each other."""
    return "hostctl" if paths.data == DATA_DIR else addresses.short_name(paths, "hostctl_", "table")


def nft_path() -> str:
    """Where `nft` is, empty where it is not installed."""
    for folder in NFT_FOLDERS:
        path = os.path.join(folder, "nft")
        if os.access(path, os.X_OK):
            return path
    return ""


def published_ports(paths: Paths) -> list[Published]:
    """The ports of all containers' `network.json`, in a stable order."""
    folder = os.path.join(paths.data, "containers")
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    found: list[Published] = []
    for name in names:
        record = read_json(os.path.join(folder, name, "network.json")) or {}
        found.extend(_published(name, port) for port in record.get("ports", ()) if port["address"])
    return sorted(found, key=lambda p: (p.protocol, p.host_port, p.host_ip, p.container))


def render(
    networks: Iterable[dict[str, Any]], ports: Sequence[Published], table: str = "hostctl"
) -> str:
    """The whole table as `nft -f` reads it; equal records give equal text."""
    records = sorted(networks, key=lambda record: record["name"])
    head = [f"table inet {table}", f"delete table inet {table}"]
    if not records:
        return "\n".join(head) + "\n"
    chains = [
        _chain("guard", "filter", "prerouting", -300, _guard(records)),
        _chain("prerouting", "nat", "prerouting", -100, [_local("published")]),
        _chain("output", "nat", "output", -100, [_local("published_here"), _local("published")]),
        _chain("postrouting", "nat", "postrouting", 100, _postrouting(records)),
        _chain("forward", "filter", "forward", 0, _forward(records)),
    ]
    outside = [_dnat(port) for port in ports if not _is_loopback(port.host_ip)]
    # A port bound to 127.0.0.1 has a rule for the host's own traffic and none for what comes in.
    here = [_dnat(port) for port in ports if _is_loopback(port.host_ip)]
    body = [_block("chain published", outside), _block("chain published_here", here), *chains]
    return "\n".join([*head, f"table inet {table} {{", *body, "}"]) + "\n"


def wanted(paths: Paths) -> str:
    """The text that the records ask for."""
    return render(addresses.load_all(paths), published_ports(paths), table_name(paths))


def sync(paths: Paths) -> None:
    """Make the table what the records ask for, and remove it where there are none.

    Threads that call this while another replaces the table share the next replacement.
    Raises HostctlError where nft is missing or refuses.
    """
    shared = _shared(paths)
    with shared.count:
        shared.asked += 1
        ticket = shared.asked
    with shared.work:
        if shared.done >= ticket:
            return
        with shared.count:
            upto = shared.asked
        _replace(paths)
        shared.done = upto


def is_intact(paths: Paths, listing: str | None = None) -> bool:
    """Whether the table in the kernel is the one that the records ask for.

    Args:
        listing: the text of `nft list table` read earlier (plan mode); None reads it now.
    """
    if not addresses.load_all(paths):
        return True
    shared = _shared(paths)
    with shared.work:
        state = read_json(_state_path(paths)) or {}
        # What another thread has recorded and will load in a moment is no damage.
        if state.get("wanted") != _hash(wanted(paths)) and not shared.changing:
            return False
        text = snapshot(paths) if listing is None else listing
    return bool(text) and state.get("listing") == _hash(text)


@contextmanager
def changing(paths: Paths) -> Iterator[None]:
    """Around writing a record that the firewall is made of and the `sync` that loads it."""
    shared = _shared(paths)
    with shared.count:
        shared.changing += 1
    try:
        yield
    finally:
        with shared.count:
            shared.changing -= 1


def snapshot(paths: Paths) -> str:
    """The kernel's table as `nft` prints it; empty without one, without nft, or without a network."""
    nft = nft_path()
    if not nft or not addresses.load_all(paths):
        return ""
    listed = run([nft, "list", "table", "inet", table_name(paths)], timeout=30)
    return listed.stdout if listed.code == 0 else ""


def ensure_forwarding(paths: Paths) -> None:
    """Switch IPv4 forwarding on, remembering (until reboot, as the kernel does) that it was off."""
    path = "/proc/sys/net/ipv4/ip_forward"
    with open(path, encoding="ascii") as stream:
        before = stream.read().strip()
    if before != "1":
        private_folder(paths.run)
        write_json(_forward_path(paths), {"before": before})
        with open(path, "w", encoding="ascii") as stream:
            stream.write("1")


def restore_forwarding(paths: Paths) -> None:
    """Switch forwarding off again if it was hostctl that switched it on."""
    memory = read_json(_forward_path(paths))
    if memory is not None:
        with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as stream:
            stream.write(memory["before"])
        os.unlink(_forward_path(paths))


def forwards() -> bool:
    """Whether the host forwards IPv4."""
    with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as stream:
        return stream.read().strip() == "1"


def _published(container: str, port: dict[str, Any]) -> Published:
    return Published(
        container=container,
        host_ip=port.get("host_ip", ""),
        host_port=port["host_port"],
        protocol=port.get("protocol", "tcp"),
        address=port["address"].partition("/")[0],
        target=port["target"],
    )


def _chain(name: str, kind: str, hook: str, priority: int, rules: list[str]) -> str:
    head = f"type {kind} hook {hook} priority {priority}; policy accept;"
    return _block(f"chain {name}", [head, *rules])


def _block(head: str, lines: list[str]) -> str:
    return "\n".join([f"  {head} {{", *(f"    {line}" for line in lines), "  }"])


def _local(chain: str) -> str:
    return f"meta nfproto ipv4 fib daddr type local jump {chain}"


def _set(names: Iterable[str]) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"


def _is_loopback(host_ip: str) -> bool:
    return host_ip.startswith("127.")


def _dnat(port: Published) -> str:
    bound = f"ip daddr {port.host_ip} " if port.host_ip not in ("", "0.0.0.0") else ""
    return f"{bound}{port.protocol} dport {port.host_port} dnat ip to {port.address}:{port.target}"


def _guard(records: list[dict[str, Any]]) -> list[str]:
    """route_localnet is on for the bridges: keep containers from the host's loopback services."""
    return [f"iifname {_set(r['bridge'] for r in records)} ip daddr 127.0.0.0/8 drop"]


def _postrouting(records: list[dict[str, Any]]) -> list[str]:
    rules = []
    for record in records:
        bridge, subnet = record["bridge"], record["subnet"]
        # The host's own loopback, and a container that reaches its own network through a published
        # port, must be answered through the host, or the answer's source would not match.
        rules.append(f'oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade')
        rules.append(f'oifname "{bridge}" ip saddr {subnet} ct status dnat masquerade')
        if not record.get("internal"):
            rules.append(f'oifname != "{bridge}" ip saddr {subnet} masquerade')
    return rules


def _forward(records: list[dict[str, Any]]) -> list[str]:
    """Order matters: internal networks are cut before anything is let through."""
    rules = []
    for record in records:
        if record.get("internal"):
            bridge = record["bridge"]
            rules.append(f'iifname "{bridge}" oifname != "{bridge}" drop')
            rules.append(f'iifname != "{bridge}" oifname "{bridge}" drop')
    bridges = _set(record["bridge"] for record in records)
    rules.append(f"oifname {bridges} ct state established,related accept")
    rules.append(f"oifname {bridges} ct status dnat accept")
    # What is left for a bridge comes from outside or from another network, with no port published.
    rules.extend(f'iifname != "{r["bridge"]}" oifname "{r["bridge"]}" drop' for r in records)
    return rules


class _Shared:
    """What the threads of one process share about one host's table."""

    def __init__(self) -> None:
        self.count = threading.Lock()
        self.work = threading.Lock()
        self.asked = 0
        self.done = 0
        self.changing = 0


_all_shared: dict[str, _Shared] = {}
_all_lock = threading.Lock()


def _shared(paths: Paths) -> _Shared:
    with _all_lock:
        return _all_shared.setdefault(paths.data, _Shared())


def _replace(paths: Paths) -> None:
    private_folder(paths.run)
    with open(os.path.join(paths.run, "firewall.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = addresses.load_all(paths)
        nft = nft_path()
        if not nft:
            if not records:
                return
            raise HostctlError(
                "cannot set up the firewall of the networks: nft is not installed",
                hint="install the package nftables on the host",
                ref="nft-missing",
            )
        ports = published_ports(paths)
        text = render(records, ports, table_name(paths))
        state = read_json(_state_path(paths)) or {}
        if records and state.get("wanted") == _hash(text):
            listing = snapshot(paths)
            # An empty one may be on record too: somebody flushed all between our load and our look.
            if listing and state.get("listing") == _hash(listing):
                return
        loaded = run([nft, "-f", "-"], input=text, timeout=60)
        if loaded.code != 0:
            line = next(iter(loaded.stderr.strip().splitlines()), f"exit code {loaded.code}")
            raise HostctlError(
                f"cannot set up the firewall of the networks: nft: {line}",
                hint="check that the kernel has nf_tables with nat (modprobe nft_chain_nat)",
                ref="nft-failed",
            )
        flows = {
            f"{p.host_port} {p.host_ip} {p.address} {p.target}"
            for p in ports
            if p.protocol == "udp"
        }
        changed = flows.symmetric_difference(state.get("udp", ()))
        if not records:
            _forget(paths)
        else:
            now = {"wanted": _hash(text), "listing": _hash(snapshot(paths)), "udp": sorted(flows)}
            write_json(_state_path(paths), now)
        conntrack.flush_udp({int(flow.split()[0]) for flow in changed})


def _forget(paths: Paths) -> None:
    try:
        os.unlink(_state_path(paths))
    except FileNotFoundError:
        pass


def _state_path(paths: Paths) -> str:
    return os.path.join(paths.run, "firewall.json")


def _forward_path(paths: Paths) -> str:
    return os.path.join(paths.run, "ip_forward.json")


def _hash(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()
